"""When a process that has died is started again."""

from __future__ import annotations

import pytest

from p2pdl.node.restarts import PAUSES, WINDOW_SECONDS, Restarts, how_it_ended


def test_pauses_grow_and_stay_finite() -> None:
    restarts = Restarts()
    pauses = [restarts.on_death(float(number)) for number in range(20)]
    assert pauses[: len(PAUSES)] == list(PAUSES)
    assert set(pauses[len(PAUSES) :]) == {PAUSES[-1]}
    assert restarts.deaths == 20


def test_limit_counts_the_deaths_of_the_last_hour() -> None:
    restarts = Restarts(limit=2)
    assert [restarts.on_death(0.0), restarts.on_death(1.0), restarts.on_death(2.0)] == [PAUSES[0], PAUSES[1], None]
    assert restarts.on_death(1.0 + WINDOW_SECONDS) == PAUSES[1]
    assert restarts.deaths == 4


def test_limit_of_none_at_all() -> None:
    assert Restarts(limit=0).on_death(5.0) is None


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [(1, "exit code 1"), (-9, "ended by SIGKILL"), (-15, "ended by SIGTERM"), (-34, "ended by SIGRTMIN")],
)
def test_exit_code_is_told_in_words(exit_code: int, text: str) -> None:
    assert how_it_ended(exit_code) == text
