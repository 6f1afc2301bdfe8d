"""What is concluded of the accuracies of Cui's tables, against points by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.cui_accuracy import CONSENSUS, ITERATIONS, SERVER, cases, conclude
from experiments.harness.experiment import Figures, Size


def node(test: float, steps: list[int], losses: list[float | None], before: float | None = None) -> dict[str, Any]:
    summary = {
        "smoothed_loss": losses[-1],
        "train_accuracy": test + 0.1,
        "test_accuracy": test,
        "before_final_merge": None if before is None else {"train_accuracy": before + 0.1, "test_accuracy": before},
    }
    return {"summary": summary, "curve": {"step": steps, "train_loss": losses}}


RESULTS: dict[str, Figures] = {
    "gossip": {
        "accuracy": 0.71,
        "nodes": {
            "node1": node(0.71, [10, 20], [2.0, 1.0], before=0.68),
            "node2": node(0.71, [10, 20], [2.1, 1.1], before=0.695),
        },
    },
    "asp": {
        "accuracy": 0.72,
        "nodes": {
            "node1": node(0.70, [10, 20], [2.0, 1.2]),
            "node2": node(0.72, [10, 30], [2.2, 1.0]),
            "server1": {"summary": {}, "curve": {}},
        },
    },
    "single": {"accuracy": 0.716, "nodes": {"node1": node(0.716, [20, 40], [1.9, 0.9])}},
}


def test_promises_are_in_points() -> None:
    found = conclude(Size.SMALL, RESULTS)
    # Of the server it is the mean of its workers, 0.71, that counts.
    assert [promise.holds for promise in found.promises] == [True, True, False]
    assert [float(promise.found.split()[0]) for promise in found.promises] == pytest.approx([0.0, 0.6, 1.5], abs=1e-3)
    assert found.sentence == (
        "The consensus of gossip has 71.0 % on test data (its nodes 68.0 % to 69.5 %), the parameter server 71.0 %, "
        "one machine with as many samples in all 71.6 %."
    )


@pytest.mark.parametrize(("missing", "holds"), [("gossip", [None] * 3), ("asp", [None, True, False])])
def test_what_is_missing_is_not_known(missing: str, holds: list[bool | None]) -> None:
    left = {name: found for name, found in RESULTS.items() if name != missing}
    assert [promise.holds for promise in conclude(Size.SMALL, left).promises] == holds


def test_the_table_has_ours_beside_the_published_figures() -> None:
    [table] = conclude(Size.SMALL, RESULTS).tables
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["gossip, node1"] == ["1.0000", "0.3670", "78.0", "86.7", "68.0", "79.9"]
    assert rows[CONSENSUS] == ["-", "-", "81.0", "-", "71.0", "-"]
    assert rows[SERVER] == ["1.1000", "0.4877", "81.0", "96.7", "71.0", "79.5"]
    assert rows["gossip, node3"] == ["-", "0.1774", "-", "95.3", "-", "79.8"]


def test_charts_have_accuracies_and_losses_over_the_iterations_of_all_workers() -> None:
    bars, losses = conclude(Size.SMALL, RESULTS).charts
    ours, theirs = bars.series
    assert ours.values == pytest.approx([68.0, 69.5, None, None, 71.0, 71.0, 71.6])
    assert theirs.published and theirs.values[4] is None and theirs.values[6] == pytest.approx(83.8)
    lines = {series.name: (series.x, series.y) for series in losses.series}
    assert lines["gossip, node2"] == ([20.0, 40.0], [2.1, 1.1])
    assert lines["single machine"] == ([20.0, 40.0], [1.9, 0.9])
    # At 20 steps the second worker is half of the way from 2.2 to 1.0.
    assert lines[SERVER][0] == [20.0, 40.0] and lines[SERVER][1] == pytest.approx([2.1, 1.4])


def test_all_see_as_many_samples() -> None:
    for size in Size:
        for case in cases(size):
            settings = case.settings
            assert settings["nodes"] * settings["sections"]["train"]["steps"] == ITERATIONS[size]
