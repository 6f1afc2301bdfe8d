"""eSGD's tables out of made-up runs: which run stands in which row, the best of several, leads, and what is missing."""

from __future__ import annotations

import pytest

from experiments.esgd_tables import ROWS, cases, conclude
from experiments.harness.experiment import Figures, Size


def figures(accuracy: float) -> Figures:
    looks = {"pushes": [400, 800], "ingress": [10, 20], "accuracy": [0.5, accuracy], "loss": [0.9, 0.2]}
    return {"looks": looks, "accuracy": accuracy, "ingress": 20, "dense_bytes": 80}


def every(accuracy: float, **others: float) -> dict[str, Figures]:
    return {name: figures(others.get(name, accuracy)) for name in {row.name for row in ROWS}}


def test_every_row_of_both_tables_has_ours_beside_the_published_figure() -> None:
    found = conclude(Size.SMALL, every(0.97))
    first, second = found.tables
    assert first.rows[0] == ["dense SGD", "128", "2,000", "97.00", "1/4", "200,000", "99.77"]
    assert [row[-1] for row in first.rows] == ["99.77", "86.01", "78.23", "82.22", "82.89", "80.43"]
    assert [row[-1] for row in second.rows] == ["95.31", "91.22", "88.46", "83.85", "83.76", "81.13"]
    assert second.rows[-1][:3] == ["eSGD, drop 75 %", "128", "1,000"]
    assert [promise.holds for promise in found.promises] == [True] * 4
    # The smallest lead is that of a quarter dropped.
    assert float(found.promises[-1].found) == pytest.approx(97 - 95.31)


def test_run_of_a_row_of_both_tables_is_compared_with_both() -> None:
    low = every(0.97) | {"drop-50-128-200k": figures(0.91)}
    *_, lead = conclude(Size.SMALL, low).promises
    assert float(lead.found) == pytest.approx(-0.22) and lead.holds is False
    assert len(cases(Size.SMALL)) == len(ROWS) - 1


@pytest.mark.parametrize(
    "name, accuracy, wanted",
    [("drop-50-128-200k", 0.949, 0), ("drop-75-128-100k", 0.929, 1), ("drop-87.5-128-200k", 0.899, 2)],
)
def test_claims_are_about_the_rows_of_batch_128(name: str, accuracy: float, wanted: int) -> None:
    promises = conclude(Size.SMALL, every(0.97) | {name: figures(accuracy)}).promises
    assert [promise.holds for promise in promises[:3]] == [number != wanted for number in range(3)]


def test_best_of_three_runs_counts() -> None:
    names = [case.name for case in cases(Size.PAPER) if case.name.startswith("drop-50-128-200k")]
    results = {name: figures(accuracy) for name, accuracy in zip(names, (0.94, 0.96, 0.95), strict=True)}
    found = conclude(Size.PAPER, results)
    assert found.promises[0].found == "0.96" and found.promises[1].holds is None
    assert found.tables[0].rows[1][2:4] == ["200,000", "96.00"]


def test_iterations_are_those_of_each_worker() -> None:
    case = next(case for case in cases(Size.SMALL) if case.name == "drop-75-64-150k")
    assert case.settings["pushes"] == 4 * 1500 and case.settings["system"]["settings"] == {"fraction": 0.25}
    _, curves = conclude(Size.SMALL, every(0.97)).charts
    assert curves.series[0].x == [100.0, 200.0]


@pytest.mark.parametrize("name", sorted({row.name for row in ROWS}))
def test_any_row_alone_can_be_shown(name: str) -> None:
    found = conclude(Size.SMALL, {name: figures(0.9)})
    assert found.sentence.endswith(".") and sum(row[3] == "90.00" for one in found.tables for row in one.rows) >= 1
    assert found.promises[-1].holds is None
