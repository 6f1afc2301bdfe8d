"""What the experiment of AdaComp's ingress makes of made-up looks: ratios, verdicts, and what is missing."""

from __future__ import annotations

import pytest

from experiments import adacomp_ingress
from experiments.adacomp_ingress import SYSTEMS, cases, conclude, fewer
from experiments.harness.crew import progress_of
from experiments.harness.experiment import Figures, Size


def figures(*looks: tuple[int, float]) -> Figures:
    """Of bytes and accuracies."""
    nbytes, accuracy = [list(column) for column in zip(*looks, strict=True)]
    found = {"pushes": [10 * n + 10 for n in range(len(looks))], "ingress": nbytes, "accuracy": accuracy}
    return {
        "looks": {**found, "loss": [0.1] * len(looks)},
        "accuracy": accuracy[-1],
        "ingress": nbytes[-1],
        "dense_bytes": 10**6,
        "staleness": 19.0,
        "given_up": 0,
    }


DENSE = figures((1000, 0.9), (2000, 0.96), (3000, 0.97))


def test_ratio_is_to_the_dense_run_with_as_many_deaths() -> None:
    known = {
        "dense": progress_of(DENSE),
        "dense-dying": progress_of(figures((500, 0.9), (4000, 0.96))),
        "adacomp": progress_of(figures((10, 0.91), (20, 0.93), (40, 0.97))),
        "adacomp-dying": progress_of(figures((10, 0.91), (50, 0.96))),
    }
    assert [fewer(known, name, 0.95) for name in ("adacomp", "adacomp-dying", "dense")] == [50.0, 80.0, 1.0]
    assert fewer(known, "adacomp", 0.9) == 100.0
    assert fewer(known, "adacomp", 0.99) is None and fewer(known, "one-rate", 0.9) is None


@pytest.mark.parametrize("nbytes, holds", [(20, True), (21, False)])
def test_claim_is_about_the_greatest_accuracy(nbytes: int, holds: bool) -> None:
    found = conclude(Size.SMALL, {"dense": DENSE, "adacomp": figures((15, 0.9), (nbytes, 0.95), (60, 0.968))})
    promise, dying, points = found.promises
    assert (promise.found, promise.holds) == (f"{2000 / nbytes:.4g}", holds)
    assert dying.holds is None and points.found == "-0.2" and points.holds
    assert f"1/{2000 / nbytes:.0f} of the bytes" in found.sentence and "0.2 points below" in found.sentence


def test_accuracy_that_is_not_reached_leaves_the_claim_open() -> None:
    found = conclude(Size.SMALL, {"dense": DENSE, "adacomp": figures((15, 0.9), (30, 0.94))})
    promise, _, points = found.promises
    assert promise.holds is None and points.holds is False
    assert found.tables[0].rows[1][3:7] == ["15 bytes", "-", "67", "-"]


@pytest.mark.parametrize("size", list(Size))
def test_any_case_alone_gives_a_table_and_charts(size: Size) -> None:
    for name in SYSTEMS:
        found = conclude(size, {name: DENSE})
        assert found.sentence.endswith(".") and len(found.tables[0].rows) == 2 and len(found.charts) == 2
    assert not conclude(Size.SMOKE, {"dense": DENSE, "adacomp": DENSE}).promises


def test_a_quarter_of_the_workers_dies_where_they_do() -> None:
    dead = {case.name: case.settings["dead"] for case in cases(Size.SMALL)}
    assert dead == {name: 5 * name.endswith("dying") for name in adacomp_ingress.SYSTEMS}
