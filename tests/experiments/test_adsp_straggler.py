"""The experiment of the slow worker: its figures against numbers made by hand, its configurations, and a small run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import adsp_straggler
from experiments.adsp_straggler import ADSP, CASES, SIZES
from experiments.observed_server import Look, Seen


def seen(*looks: tuple[float, float]) -> Seen:
    made = [Look(moment, number, accuracy) for number, (moment, accuracy) in enumerate(looks)]
    return Seen(made, {"worker1": 25.0, "worker2": 8.0}, {"pushes": 30})


def row(title: str, *times: float | None) -> dict[str, Any]:
    runs = [adsp_straggler.figures(seen((1.0, 0.2), (time or 9.0, 0.96 if time else 0.4)), 0.95) for time in times]
    return adsp_straggler.row(title, runs, 0.5)


def test_time_is_that_of_the_first_look_that_reached_the_accuracy() -> None:
    run = adsp_straggler.figures(seen((1.0, 0.8), (2.0, 0.95), (3.0, 0.94)), 0.95)
    assert (run["seconds"], run["final_accuracy"], run["pushes_per_second"]) == (2.0, 0.94, 10.0)
    assert adsp_straggler.figures(seen((1.0, 0.8)), 0.95)["seconds"] is None


def test_case_that_once_did_not_arrive_has_no_time() -> None:
    assert row(ADSP, 2.0, 6.0, 3.0)["seconds"] == 3.0
    assert row(ADSP, 2.0, None)["seconds"] is None


def test_ratio_is_to_the_better_of_those_that_wait() -> None:
    rows = [row("bsp", 10.0), row("ssp", 8.0), row("asp", 1.0), row(ADSP, 4.0)]
    assert adsp_straggler.ratio_of(rows) == 0.5
    assert adsp_straggler.ratio_of([row("bsp", 10.0), row("ssp", None), row(ADSP, 4.0)]) == 0.4
    assert adsp_straggler.ratio_of([row("asp", 1.0), row(ADSP, 4.0)]) is None
    assert adsp_straggler.ratio_of([row("bsp", 10.0), row(ADSP, None)]) is None


@pytest.mark.parametrize("time, verdict", [(7.0, "0.70, holds"), (7.1, "0.71, does not hold"), (None, "not known")])
def test_table_ends_with_the_verdict(time: float | None, verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    adsp_straggler.show([row("bsp", 10.0), row("ssp", 12.0), row(ADSP, time)], 0.95)
    assert capsys.readouterr().out.rstrip().endswith(verdict)


@pytest.mark.parametrize("title", CASES)
def test_configuration_is_accepted_and_has_the_policy(title: str, tmp_path: Path) -> None:
    arguments = adsp_straggler.parse(["--size", "smoke", "--set", "pushes=3"])
    configuration = adsp_straggler.configured(title, SIZES["smoke"], arguments, 7, tmp_path)
    assert configuration.server.policy == title
    assert (configuration.server.pushes == 3) == (title == ADSP)
    assert (configuration.train.seed, configuration.train.threads) == (7, 1)
    assert len(configuration.founders) == 2 and len(configuration.servers) == 1


@pytest.mark.parametrize("words", [["--cases", "bsp,fsp"], ["--rounds", "0"], ["--set", "pushes"], ["--size", "huge"]])
def test_senseless_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        adsp_straggler.parse(words)


@pytest.mark.slow
def test_small_run_compares_two_policies(capsys: pytest.CaptureFixture[str]) -> None:
    assert adsp_straggler.main(["--size", "smoke", "--cases", "bsp,adsp", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["case"] for row in rows] == ["bsp", ADSP]
    for found in rows:
        [run] = found["runs"]
        fast, slow = run["steps_per_second"].values()
        assert 0 < slow <= 1 / 0.015 and fast > 0
        assert run["looks"] and found["final_accuracy"] > 0.3
