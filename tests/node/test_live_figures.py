"""Rates and shares against closed forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.node.live_figures import PHASES, WINDOW_SECONDS, Traffic, exchange_text, phase_shares

FIGURES = {"merges": 12, "merges_skipped": 0, "mbit_per_second_in": None, "mbit_per_second_out": None}


def test_first_look_has_no_rate_and_the_second_has_that_of_the_time_between() -> None:
    traffic = Traffic()
    assert traffic.look(5.0, 1_000_000, 0) == (None, None)
    assert traffic.look(5.0, 1_000_000, 0) == (None, None)
    assert traffic.look(7.0, 2_000_000, 500_000) == (pytest.approx(4.0), pytest.approx(2.0))


@given(st.floats(0.1, 30.0), st.integers(0, 10**9), st.integers(0, 10**9))
def test_steady_traffic_has_its_rate_however_often_one_looks(interval: float, received: int, sent: int) -> None:
    traffic = Traffic()
    for number in range(1, 100):
        rates = traffic.look(number * interval, number * received, number * sent)
    assert rates[0] == pytest.approx(8e-6 * received / interval)
    assert rates[1] == pytest.approx(8e-6 * sent / interval)


def test_traffic_of_before_the_window_is_forgotten() -> None:
    traffic = Traffic()
    for second in range(100):
        rates = traffic.look(float(second), 1_000_000 * min(second, 50), 0)
        if 10 <= second <= 50:
            assert rates[0] == pytest.approx(8.0)
    assert rates == (0.0, 0.0)
    assert WINDOW_SECONDS == 10.0
    assert traffic.look(104.0, 50_000_000 + 10_000_000, 0)[0] == pytest.approx(8.0)


def test_shares_are_those_of_the_four_phases_together() -> None:
    assert PHASES == ("compute", "publish", "wait", "merge")
    seconds = {"compute_seconds": 6.0, "publish_seconds": 1.0, "wait_seconds": 2.0, "merge_seconds": 1, "x": "y"}
    assert phase_shares(seconds) == {"compute": 0.6, "publish": 0.1, "wait": 0.2, "merge": 0.1}


@pytest.mark.parametrize("value", [None, "1.0", True, -1.0])
def test_figures_of_a_stranger_that_are_no_times_have_no_shares(value: object) -> None:
    good = {f"{phase}_seconds": 1.0 for phase in PHASES}
    assert phase_shares(good) is not None
    assert phase_shares(good | {"wait_seconds": value}) is None
    assert phase_shares({f"{phase}_seconds": 0.0 for phase in PHASES}) is None
    assert phase_shares({}) is None


def test_text_says_what_is_known() -> None:
    assert exchange_text({"samples": 64}) == ""
    assert exchange_text(FIGURES) == "12 merges"
    seconds = {"compute_seconds": 3.0, "publish_seconds": 0.5, "wait_seconds": 0.25, "merge_seconds": 0.25}
    known = FIGURES | seconds | {"merges_skipped": 2, "mbit_per_second_in": 93.44, "mbit_per_second_out": 0.0}
    assert exchange_text(known) == "12 merges (2 skipped), 93.4 Mbit/s in and 0 out, waiting 6.2 %"
