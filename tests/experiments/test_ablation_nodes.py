"""What is concluded of more nodes and skewed data, against figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.ablation_nodes import BATCH, EXPERIMENT, STEPS, conclude
from experiments.harness.experiment import Size


def found(accuracy: float, *own: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "nodes": list(own) or [accuracy], "steps": 100, "nbytes": 2e6}


def results() -> dict[str, Any]:
    known = {"one-machine": found(0.975)}
    for nodes, lost in ((2, 0.0), (4, 0.005), (8, 0.012)):
        known[f"{nodes}-iid-together"] = found(0.975 - lost, 0.96, 0.97)
        known[f"{nodes}-iid-apart"] = found(0.95, 0.94, 0.96)
        known[f"{nodes}-dirichlet-together"] = found(0.97 - lost, 0.95, 0.96)
        known[f"{nodes}-dirichlet-apart"] = found(0.8, 0.7, 0.9)
    return {f"{name}-seed0": figures for name, figures in known.items()}


def test_points_are_against_one_machine_and_against_nodes_apart() -> None:
    done = conclude(Size.SMALL, results())
    assert [promise.holds for promise in done.promises] == [True, True, True, False, True, True, True, True]
    shown = [float(promise.found) for promise in done.promises]
    assert shown == pytest.approx([0.975, 0.0, 0.5, 1.2, 0.5, 1.0, 1.7, 16.5], abs=1e-9)
    assert "8 nodes above one machine's 0.9750: -1.20 with equal random parts, -1.70 with skewed" in done.sentence
    lines, bars = done.charts
    assert [series.y for series in lines.series][:2] == [[0.975, 0.975, 0.97, pytest.approx(0.963)]] + [
        [0.975, 0.95, 0.95, 0.95]
    ]
    assert [one.values[-1] for one in bars.series] == pytest.approx([4.2, 5.0, 30.0])
    assert bars.level == pytest.approx(2.5)
    [table] = done.tables
    assert len(table.rows) == 13 and table.rows[2][4] == "-" and table.rows[1][4] == "0.9750"


def test_what_is_missing_is_not_decided() -> None:
    known = results()
    del known["one-machine-seed0"]
    done = conclude(Size.SMALL, known)
    assert [promise.holds for promise in done.promises] == [None] * 7 + [True]
    assert done.sentence == "Nothing can be compared yet."


def test_all_take_as_many_samples() -> None:
    for case in EXPERIMENT.cases(Size.SMALL):
        train = case.settings["sections"]["train"]
        assert train["steps"] * case.settings["nodes"] == STEPS[Size.SMALL] and train["batch_size"] == BATCH
