"""The two clocks."""

from __future__ import annotations

import time

import pytest

from p2pdl.clock import MonotonicClock, VirtualClock


def test_monotonic_clock_is_the_machines() -> None:
    before = time.monotonic()
    now = MonotonicClock().now()
    assert before <= now <= time.monotonic()


def test_virtual_clock_moves_only_when_told() -> None:
    clock = VirtualClock(3.0)
    assert clock.now() == clock.now() == 3.0
    clock.advance_to(3.0)
    clock.advance_to(4.5)
    assert clock.now() == 4.5


def test_virtual_clock_refuses_to_go_back() -> None:
    clock = VirtualClock()
    clock.advance_to(2.0)
    with pytest.raises(ValueError, match="from 2.0 to 1.5"):
        clock.advance_to(1.5)
    assert clock.now() == 2.0
