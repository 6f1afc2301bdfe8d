"""What is concluded of a sweep over rates, against ratios by hand."""

from __future__ import annotations

import pytest

from experiments.bandwidth_sweep import EXPERIMENT, conclude
from experiments.harness.experiment import Figures, Size


def step(median: float, p90: float) -> Figures:
    return {"step": {"median": median, "p90": p90, "count": 40, "seconds": [median]}}


SMALL = EXPERIMENT.cases(Size.SMALL)
RESULTS = {
    "gossip-free": step(0.2, 0.25),
    "gossip-free-after": step(0.21, 0.25),
    "gossip-one-50": step(0.205, 0.3),
    "gossip-all-50": step(0.22, 0.3),
    "gossip-one-300": step(0.2, 0.25),
    "asp-free": step(0.22, 0.25),
    "asp-one-50": step(4.1, 4.4),
    "asp-one-300": step(0.6, 0.7),
    "tensorflow-one-300": step(1.0, 1.2),
}


def test_promises_are_ratios_of_medians() -> None:
    found = conclude(Size.SMALL, RESULTS)
    assert [(promise.found, promise.holds) for promise in found.promises] == [
        ("1", True),
        (f"{0.22 / 0.205:.4g}", False),
        ("3", True),
        (f"{20 / 3:.4g}", True),
        ("5", True),
    ]
    assert "takes 1.00 of one without a limit" in found.sentence and "20 at 50, 3 at 300 Mbit/s" in found.sentence


@pytest.mark.parametrize(
    "missing", ["gossip-free", "gossip-free-after", "gossip-one-300", "asp-one-50", "tensorflow-one-300"]
)
def test_what_is_missing_is_not_known(missing: str) -> None:
    left = {name: found for name, found in RESULTS.items() if name != missing}
    known = {
        "gossip-free": [None, None, True, True, True],
        "gossip-free-after": [None, None, True, True, True],
        "gossip-one-300": [True, False, None, None, None],
        "asp-one-50": [True, False, True, None, True],
        "tensorflow-one-300": [True, False, True, True, None],
    }
    assert [promise.holds for promise in conclude(Size.SMALL, left).promises] == known[missing]


def test_charts_have_a_line_for_each_system_and_place_with_a_rate() -> None:
    median, p90 = conclude(Size.SMALL, RESULTS).charts
    lines = {series.name: (series.x, series.y) for series in median.series}
    assert lines == {
        "gossip, one link": ([50.0, 300.0, 10_000.0], [0.205, 0.2, 0.2]),
        "gossip, all links": ([50.0, 10_000.0], [0.22, 0.2]),
        "p2pdl, asp, one link": ([50.0, 300.0, 10_000.0], [4.1, 0.6, 0.22]),
        "TensorFlow's server, one link": ([300.0], [1.0]),
    }
    assert p90.series[2].y == [4.4, 0.7, 0.25]


def test_the_table_compares_with_gossip_over_the_same_links() -> None:
    [table] = conclude(Size.SMALL, RESULTS).tables
    rows = {tuple(row[:3]): row for row in table.rows}
    assert rows["p2pdl, asp", "one link", "50"][3:] == ["4.1000", "4.4000", "40", "20.00"]
    assert rows["p2pdl, asp", "-", "-"][-1] == "1.10"
    assert sum("published" in row[0] for row in table.rows) == 2


def test_a_run_without_steps_side_by_side_is_no_point() -> None:
    nothing = {"gossip-one-50": {"step": {"median": None, "p90": None, "count": 0, "seconds": []}}}
    found = conclude(Size.SMALL, nothing)
    assert not found.charts and "yet" in found.sentence


def test_which_link_is_limited_and_how_many_cases_there_are() -> None:
    links = {case.name: case.settings["links"] for case in SMALL}
    assert len(links) == 16 and EXPERIMENT.minutes(Size.SMALL) <= 20
    assert links["gossip-one-50"] == {"node1": 50.0} and links["asp-one-50"] == {"server1": 50.0}
    assert links["asp-all-300"] == {"all": 300.0} and links["gossip-free"] == {}
    steps = {case.name: case.settings.get("sections", {}).get("train", {}).get("steps") for case in SMALL}
    assert steps["gossip-one-50"] == steps["gossip-free"] == 150 and steps["asp-one-50"] == 12
    names = [case.name for case in SMALL if case.name.startswith("gossip")]
    assert (names[0], names[-1]) == ("gossip-free", "gossip-free-after")
    assert links["tensorflow-one-300"] == {"ps0": 300.0}
