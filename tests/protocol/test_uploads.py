"""Places for uploads: so many at one time, nobody keeps the others out, and turns alternate."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.uploads import (
    IDLE_SECONDS,
    LONGEST_TERM,
    RECENT_UPLOADS,
    SHORTEST_TERM,
    TERM_MEDIANS,
    TURN_SECONDS,
    UploadPlaces,
)

STEP = 0.125
"""Seconds, exact in binary."""


def upload(places: UploadPlaces, puller: str, began: float, seconds: float) -> None:
    """An upload from its beginning to its end."""
    assert places.admit(puller, began)
    places.release(puller, began + seconds)


def first_admission_beside(places: UploadPlaces, now: float) -> float:
    """Seconds after which somebody else gets the place of a puller that goes on asking all the time."""
    assert places.admit("dawdler", now)
    for number in range(int(2 * LONGEST_TERM / STEP)):
        seconds = number * STEP
        places.touch("dawdler", now + seconds)
        if places.admit("other", now + seconds):
            return seconds
    raise AssertionError("the dawdler kept everybody out")


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_as_many_as_the_limit_are_admitted(limit: int) -> None:
    places = UploadPlaces(limit)
    assert [places.admit(f"puller{number}", 0.0) for number in range(8)] == [True] * limit + [False] * (8 - limit)
    places.release("puller0", 0.1)
    assert places.admit("late", 0.1)
    assert not places.admit("later", 0.1)


def test_end_of_an_upload_that_was_not_admitted_frees_no_place() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.0)
    places.release("b", 0.1)
    places.touch("b", 0.1)
    assert not places.admit("c", 0.1)


def test_puller_that_asks_anew_takes_one_place() -> None:
    places = UploadPlaces(2)
    assert all(places.admit("a", 0.1 * number) for number in range(5))
    assert places.admit("b", 1.0)
    assert not places.admit("c", 1.0)


def test_idle_upload_loses_its_place_and_an_asking_one_keeps_it() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", IDLE_SECONDS - STEP)
    places.touch("a", IDLE_SECONDS - STEP)
    assert not places.admit("b", IDLE_SECONDS)
    assert not places.admit("b", 2 * IDLE_SECONDS - 2 * STEP)
    assert places.admit("b", 2 * IDLE_SECONDS - STEP)
    places.touch("a", 2 * IDLE_SECONDS)
    assert not places.admit("c", 2 * IDLE_SECONDS)


def test_idle_upload_teaches_nothing_about_the_term() -> None:
    places = UploadPlaces(1)
    assert places.admit("gone", 0.0)
    assert places.admit("b", 100.0)
    places.release("gone", 100.0)
    places.release("b", 100.0 + 2 * SHORTEST_TERM)
    assert first_admission_beside(places, 200.0) == TERM_MEDIANS * 2 * SHORTEST_TERM


def test_term_before_anything_is_learnt_is_the_longest() -> None:
    assert first_admission_beside(UploadPlaces(1), 0.0) == LONGEST_TERM


@given(st.lists(st.integers(0, 160), min_size=1, max_size=2 * RECENT_UPLOADS))
def test_term_is_four_medians_of_recent_uploads_within_bounds(counts: list[int]) -> None:
    places = UploadPlaces(1)
    durations = [STEP * count for count in counts]
    for number, seconds in enumerate(durations):
        upload(places, "a", 100.0 * number, seconds)
    term = TERM_MEDIANS * statistics.median(durations[-RECENT_UPLOADS:])
    expected = min(max(term, SHORTEST_TERM), LONGEST_TERM)
    assert first_admission_beside(places, 1e5) == pytest.approx(expected, abs=STEP)


def test_upload_beyond_its_term_goes_on_beside_the_others_and_is_learnt_from() -> None:
    places = UploadPlaces(1)
    for number in range(RECENT_UPLOADS):
        upload(places, "a", 10.0 * number, 0.5)
    assert first_admission_beside(places, 1000.0) == 2.0
    places.touch("dawdler", 1003.0)
    assert not places.admit("third", 1003.0)
    for number in range(RECENT_UPLOADS):
        places.release("dawdler", 1040.0)
        places.admit("dawdler", 1040.0 + 50.0 * number)
        places.release("dawdler", 1050.0 + 50.0 * number)
    assert first_admission_beside(places, 5000.0) == 40.0


def test_puller_that_just_had_its_turn_lets_a_refused_one_go_first() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.05)
    places.release("a", 0.1)
    assert not places.admit("a", 0.1)
    assert places.admit("b", 0.15)
    places.release("b", 0.2)
    # Now it is the other way round: a has been refused, b had the turn.
    assert not places.admit("b", 0.2)
    assert places.admit("a", 0.2)


def test_refused_puller_that_does_not_come_back_is_not_waited_for() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.0)
    places.release("a", 0.0)
    assert not places.admit("a", TURN_SECONDS / 2)
    assert places.admit("a", TURN_SECONDS)


def test_puller_alone_is_never_refused() -> None:
    places = UploadPlaces(1)
    for number in range(50):
        upload(places, "a", 0.01 * number, 0.01)


@pytest.mark.parametrize("pullers", [2, 3])
def test_pullers_that_ask_all_the_time_have_nobody_twice_in_a_row(pullers: int) -> None:
    places = UploadPlaces(1)
    turns: list[str] = []
    until = 0.0
    for tick in range(2000):
        now = 0.01 * tick
        if turns and until and now >= until:
            places.release(turns[-1], now)
            until = 0.0
        for number in range(pullers):
            if not (turns and until and turns[-1] == f"p{number}") and places.admit(f"p{number}", now):
                turns.append(f"p{number}")
                until = now + 0.1
    assert len(turns) > 100
    assert all(before != after for before, after in zip(turns, turns[1:], strict=False))


def test_forget_frees_every_place() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    places.forget()
    assert places.admit("b", 0.0)


@pytest.mark.parametrize("limit", [1, 10])
def test_hostile_names_do_not_pile_up(limit: int) -> None:
    places = UploadPlaces(limit)
    for number in range(5000):
        places.admit(f"puller{number}", 0.01 * number)
        assert len(places._uploads) <= limit
        assert len(places._refused_at) <= TURN_SECONDS / 0.01 + 2
