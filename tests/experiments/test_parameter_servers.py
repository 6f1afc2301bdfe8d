"""What the experiment of all parameter servers makes of made-up runs, and that p2pdl takes their configurations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.harness.experiment import Case, Figures, Size
from experiments.parameter_servers import ALONE, CASES, PUBLISHED, case_name, cases, conclude, share
from p2pdl.config import load

TITLES = [title for title, *_ in CASES]


def figures(accuracy: float, ingress: int = 1000) -> Figures:
    worker = {"seconds_per_step": {"median": 0.02}, "wait_seconds": 3.0}
    server = {"ingress_bytes": ingress, "pushes": 40, "dense_bytes": 100}
    nodes = {"node1": {"summary": worker}, "node2": {"summary": worker}, "server1": {"summary": server}}
    return {"accuracy": accuracy, "nodes": nodes}


def every(accuracy: float) -> dict[str, Figures]:
    return {case_name(title): figures(accuracy) for title in TITLES} | {case_name(ALONE): {"accuracy": 0.976}}


def test_every_claimed_accuracy_is_a_promise() -> None:
    found = conclude(Size.SMALL, every(0.961))
    floors = [floor for _, floor, _ in CASES if floor]
    assert [promise.holds for promise in found.promises] == [*(floor <= 0.961 for floor in floors), True]
    assert found.sentence.startswith("4 of 9 systems reach") and "one machine comes to 0.9760" in found.sentence


def test_table_and_charts_say_what_went_to_the_server() -> None:
    found = conclude(Size.SMALL, {case_name("tsai"): figures(0.97)})
    assert found.tables[0].rows == [["tsai", "0.9700", "0.965", "0.980", "1 kB", "1/4", "20.0", "3.0"]]
    errors, ingress = found.charts
    assert [bars.values for bars in errors.series] == [[pytest.approx(3.0)], [pytest.approx(2.0)]]
    assert ingress.series[0].values == [25.0]
    assert share(figures(0.9, ingress=0)) == 0.0


def test_missing_cases_leave_the_claim_open() -> None:
    found = conclude(Size.SMALL, {case_name("bsp"): figures(0.9)})
    assert [promise.holds for promise in found.promises] == [False, *[None] * 9]
    assert "0 of 1 systems" in found.sentence and "least accurate of all is bsp with 0.9000" in found.sentence


def test_published_figures_are_of_systems_that_there_are() -> None:
    assert set(PUBLISHED) <= set(TITLES)


@pytest.mark.parametrize("case", cases(Size.SMALL), ids=lambda case: case.name)
def test_configuration_is_accepted(case: Case, tmp_path: Path) -> None:
    settings = case.settings
    nodes = [{"name": f"node{n}", "address": f"127.0.0.1:{7100 + n}"} for n in range(settings["nodes"])]
    nodes += [{"name": "server1", "address": "127.0.0.1:7200", "role": "server"}] * settings["servers"]
    file = tmp_path / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "tried"}, "nodes": nodes, **settings["sections"]}))
    configuration = load(file, ())
    assert len(configuration.servers) == settings["servers"] and configuration.train.passes == 3
