"""What is concluded of the masks, against figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.ablation_masks import EXPERIMENT, MASKS, conclude
from experiments.harness.experiment import Size


def found(accuracy: float, kept: float | None = 0.3) -> dict[str, Any]:
    looks = {"step": [10, 20], "accuracy": [accuracy / 2, accuracy]}
    return {"accuracy": accuracy, "nodes": [accuracy - 0.01, accuracy + 0.01], "kept": kept, "looks": looks}


def results(**accuracies: float) -> dict[str, Any]:
    return {f"{mask}-seed0": found(value, None if mask == "none" else 0.3) for mask, value in accuracies.items()}


def test_points_are_against_no_mask() -> None:
    done = conclude(Size.SMALL, results(none=0.975, magnitude=0.971, feedback=0.969, signed=0.16))
    assert [promise.holds for promise in done.promises] == [True, False, True, True]
    assert [float(promise.found) for promise in done.promises] == pytest.approx([0.4, 0.6, 0.16, 0.975])
    assert "-0.40 points" in done.sentence and "0.160" in done.sentence
    [table] = done.tables
    assert [row[1] for row in table.rows] == ["1.00", "0.30", "0.30", "0.30"]
    assert [row[3] for row in table.rows] == ["+0.00", "-0.40", "-0.60", "-81.50"]
    bars, curves = done.charts
    assert bars.series[0].values == [0.975, 0.971, 0.969, 0.16] and len(curves.series) == len(MASKS)


def test_what_is_missing_is_not_decided_and_smoke_proves_nothing() -> None:
    done = conclude(Size.SMALL, results(magnitude=0.971))
    assert [promise.holds for promise in done.promises] == [None, None, None, None]
    assert done.tables[0].rows[0][3] == "-"
    assert not conclude(Size.SMOKE, results(none=0.5, magnitude=0.9)).promises


def test_seeds_are_taken_together_at_the_papers_size() -> None:
    known = {f"{mask}-seed{seed}": found(0.97 - 0.002 * seed) for mask in MASKS for seed in (0, 1, 2)}
    assert {case.name for case in EXPERIMENT.cases(Size.PAPER)} == set(known)
    done = conclude(Size.PAPER, known)
    assert done.charts[0].series[0].values == pytest.approx([0.968] * 4)
