"""The experiment of the node without peers: its figures against numbers made by hand, and a small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import alone
from experiments.alone import ALONE, DEAD, MODELS, SINGLE
from p2pdl.config import load
from p2pdl.errors import ProcessDied


def test_rate_is_that_of_the_lines_that_count() -> None:
    lines = [{"time": 0.0, "step": 0}, {"time": 10.0, "step": 100}, {"time": 11.0, "step": 150}]
    lines += [{"time": 14.0, "step": 180}]
    assert alone.rate(lines, since=10.0) == 20.0
    with pytest.raises(ProcessDied, match="hardly done a step"):
        alone.rate(lines, since=12.0)


def test_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    row = alone.figures("mlp", DEAD, [9.0, 20.0, 3.0], [10.0, 10.0, 30.0], load=0.5)
    assert (row["steps_per_second"], row["ratio"]) == (9.0, 0.9)
    assert row["ratios"] == pytest.approx([0.9, 2.0, 0.1])


@pytest.mark.parametrize("ratio, verdict", [(0.97, " holds"), (0.969, "does not hold")])
def test_table_ends_with_the_verdict(ratio: float, verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [alone.figures("mlp", case, [100 * ratio], [100.0], 0.5) for case in (SINGLE, DEAD)]
    alone.show(rows)
    single, dead = (line for line in capsys.readouterr().out.splitlines() if line.startswith(" mlp"))
    assert dead.rstrip().endswith(verdict) and "hold" not in single


@pytest.mark.parametrize("case", [SINGLE, ALONE, DEAD])
def test_configurations_differ_in_their_strategy_alone(case: str, tmp_path: Path) -> None:
    sections = alone.sections(MODELS["vgg19-quarter"], case, tmp_path / "noise.npz")
    file = tmp_path / "peers.yaml"
    nodes = [{"name": "node1", "address": "127.0.0.1:7101"}]
    file.write_text(json.dumps({"cluster": {"name": "alone"}, "nodes": nodes, **sections}))
    configuration = load(file)
    assert configuration.strategy == ("single" if case == SINGLE else "gossip")
    assert (configuration.model.width, configuration.train.batch_size) == (0.25, 32)
    single = alone.sections(MODELS["vgg19-quarter"], SINGLE, tmp_path / "noise.npz")
    assert {**sections, "strategy": "single"} == single


@pytest.mark.parametrize("words", [["--models", "mlp,resnet"], ["--rounds", "0"], ["--block", "0.5"]])
def test_senseless_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        alone.parse(words)


@pytest.mark.slow
def test_small_run_measures_all_three_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    assert alone.main(["--quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["case"] for row in rows] == [SINGLE, ALONE, DEAD]
    assert all(row["steps_per_second"] > 0 and len(row["ratios"]) == 2 for row in rows)
