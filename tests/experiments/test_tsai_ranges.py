"""What is concluded of ranges, against figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.harness.experiment import Size
from experiments.tsai_ranges import ALL, AUTO, EXPERIMENT, MIB, RANGES, conclude, idle, pulled_mib


def found(accuracy: float, waited: float, moved: float = 0.0, mib: float = 1.0) -> dict[str, Any]:
    def worker(wait: float) -> dict[str, Any]:
        counted = {"bytes_received": 10 * mib * MIB, "merges": 10, "seconds": 20.0}
        return {"summary": {"wait_seconds": wait, "publish_seconds": moved, "pull_seconds": 3 * moved, **counted}}

    nodes = {"node1": worker(waited), "node2": worker(waited + 1.0), "server1": {"summary": {"pushes": 3}}}
    return {"accuracy": accuracy, "step": {"median": 0.1}, "nodes": nodes}


RESULTS = {
    "range-1": found(0.70, 0.5, moved=2.0),
    "range-4": found(0.85, 2.0, moved=2.0, mib=4.0),
    "range-all": found(0.93, 0.0, moved=3.0, mib=12.0),
    "range-auto": found(0.84, 3.5, moved=1.0, mib=3.0),
}


def test_what_goes_on_beside_the_computation_is_no_idle_time() -> None:
    assert idle(RESULTS["range-1"], "1") == pytest.approx(0.05)
    assert idle(RESULTS["range-all"], ALL) == pytest.approx(0.625)
    assert pulled_mib(RESULTS["range-4"]) == pytest.approx(4.0)


def test_parts_of_the_claim() -> None:
    done = conclude(Size.SMALL, RESULTS)
    assert [promise.holds for promise in done.promises] == [True, True, False, True, True]
    assert [float(promise.found) for promise in done.promises] == pytest.approx([0.625, 0.05, 0.2, 14.0, 9.0])
    assert "1 MiB for 5 % of the time, accuracy 0.7000" in done.sentence
    lines, bars = done.charts
    assert lines.series[0].x == [1.0, 4.0, 12.0] and lines.series[1].x == [3.0]
    assert bars.groups == ["1 MiB", "4 MiB", "all", "auto"]
    assert done.tables[0].rows[2][:3] == ["all", "12.0", "0.625"]


def test_what_is_missing_is_not_decided() -> None:
    done = conclude(Size.SMALL, {"range-1": RESULTS["range-1"]})
    assert [promise.holds for promise in done.promises] == [None, True, None, None, None]
    assert len(done.charts[0].series) == 1


def test_only_the_range_differs() -> None:
    sections = [case.settings["sections"] for case in EXPERIMENT.cases(Size.SMALL)]
    assert [one["server"].pop("range") for one in sections] == [1, 2, 4, 8, ALL, AUTO]
    assert all(one == sections[0] for one in sections) and len(sections) == len(RANGES[Size.SMALL])
