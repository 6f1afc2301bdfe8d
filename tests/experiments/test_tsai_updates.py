"""What is concluded of update rules with a straggler, against figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.harness.experiment import Size
from experiments.tsai_updates import EXPERIMENT, RULES, accuracy_of, conclude


def found(accuracy: float, time: float) -> dict[str, Any]:
    looks = {
        "samples": [1, 2, 3, 4],
        "time": [1.0, 2.0, 3.0, time],
        "accuracy": [0.1, accuracy - 0.01] + 2 * [accuracy],
    }
    looks["accuracy"][3] += 0.01
    return {"looks": looks, "time": time, "idle": [0.5, 0.7, 0.6, 0.0], "staleness": 1.5}


def results() -> dict[str, Any]:
    known = {}
    for rule in RULES:
        for policy in ("ssp", "asp"):
            for slower in (1, 3, 6):
                lost = {"ssp": 0.001, "asp": 0.01 if rule == "direction-distance" else 0.002}[policy] * (slower - 1)
                time = 700.0 * slower if policy == "ssp" else 700.0 + 30.0 * slower
                known[f"{rule}-{policy}-{slower}"] = found(0.964 - lost, time)
    return known


def test_accuracy_is_the_mean_of_the_last_looks() -> None:
    assert accuracy_of(found(0.9, 5.0)) == pytest.approx(0.9) and accuracy_of(None) is None


def test_parts_of_the_claim() -> None:
    done = conclude(Size.SMALL, results())
    assert [float(promise.found) for promise in done.promises] == pytest.approx(
        [0.2, 0.5, 0.2, 0.5, 0.2, 0.5, 1.0, 1.0, 5.0, 880 / 730], abs=1e-3
    )
    assert [promise.holds for promise in done.promises][:6] == [True] * 6
    assert [promise.holds for promise in done.promises][8:] == [True, True]
    assert "with a window of 4, -0.50 points by CONSGD" in done.sentence and "in 6 times the time" in done.sentence
    [table] = done.tables
    assert table.rows[3] == [
        "CONSGD",
        "a window of 4",
        "one 3 times slower",
        "0.9620",
        "-0.20",
        "2,100",
        "0.60",
        "1.50",
    ]
    assert table.rows[-1][3] == "0.98" and len(table.rows) == 19
    bars, times, samples = done.charts
    assert bars.series[0].values[:3] == pytest.approx([3.6, 3.8, 4.1])
    assert times.series[0].x[-1] == 4200.0 and samples.series[0].x == [1, 2, 3, 4] and len(times.series) == 6


def test_what_is_missing_is_not_decided() -> None:
    known = {name: figures for name, figures in results().items() if name.endswith("asp-6")}
    done = conclude(Size.SMALL, known)
    assert all(promise.holds is None for promise in done.promises)
    assert done.sentence == "Nothing can be compared yet." and done.charts[0].series[0].values[0] is None


def test_only_the_last_worker_is_slower() -> None:
    lengths = {case.name: case.settings["step_lengths"] for case in EXPERIMENT.cases(Size.SMALL)}
    assert lengths["dynsgd-asp-6"] == [1.0, 1.0, 1.0, 6.0] and lengths["consgd-ssp-1"] == [1.0] * 4
    assert len(lengths) == 18
