"""When a process that has died is started again."""

from __future__ import annotations

from p2pdl.node.restarts import PAUSES, WINDOW_SECONDS, Restarts


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
