"""Places for uploads: so many at one time, nobody keeps others out for longer than the link needs, turns alternate."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.deadlines import RECENT_TRANSFERS, SLACK
from p2pdl.protocol.uploads import (
    MOST_WAITING,
    PAUSE_BOUNDS,
    SMALL_NBYTES,
    TERM_BOUNDS,
    TURN_SECONDS,
    WAITING_SECONDS,
    UploadPlaces,
)

STEP = 0.125
"""Seconds, exact in binary."""

MIB = 1 << 20
RANGES = 8
"""Ranges of an upload, 1 MiB each: together more than a small one."""


def is_sent() -> bool:
    return True


def ask(places: UploadPlaces, puller: str, now: float, number: int, nbytes: int = MIB) -> None:
    """Ask for one of the ranges, counted from 0."""
    places.touch(puller, now, number + 1, nbytes)


def upload(places: UploadPlaces, puller: str, began: float, pause: float, nbytes: int = MIB) -> float:
    """An upload from its beginning to its end, steadily; returns when that is."""
    assert places.admit(puller, began)
    for number in range(RANGES):
        ask(places, puller, began + number * pause, number, nbytes)
    end = began + (RANGES - 1) * pause
    places.release(puller, end, is_sent)
    return end


def taught(pause: float, nbytes: int = MIB) -> tuple[UploadPlaces, float]:
    """A server that has seen nothing else than uploads with such pauses, and the time."""
    places, now = UploadPlaces(1), 0.0
    for _ in range(5):
        now = upload(places, "teacher", now, pause, nbytes) + 100.0
    return places, now


def keeps_others_out(places: UploadPlaces, now: float, asks: dict[float, int], longest: float = 4000.0) -> float:
    """Seconds for which a puller that asks for those ranges at those moments keeps somebody else out.

    Args:
        places: The places.
        now: When it begins.
        asks: For moments, in steps of `STEP` after it began, the range that it asks for then.
        longest: Seconds after which the test gives up.
    """
    assert places.admit("dawdler", now)
    for number in range(round(longest / STEP)):
        seconds = number * STEP
        if seconds in asks:
            ask(places, "dawdler", now + seconds, asks[seconds])
        if places.admit("other", now + seconds):
            return seconds
    raise AssertionError("the dawdler kept everybody out")


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_as_many_as_the_limit_are_admitted(limit: int) -> None:
    places = UploadPlaces(limit)
    assert [places.admit(f"puller{number}", 0.0) for number in range(8)] == [True] * limit + [False] * (8 - limit)
    places.release("puller0", 0.1, is_sent)
    assert places.admit("late", 0.1)
    assert not places.admit("later", 0.1)


def test_end_of_an_upload_that_was_not_admitted_frees_no_place() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.0)
    places.release("b", 0.1, is_sent)
    ask(places, "b", 0.1, 0)
    assert not places.admit("c", 0.1)


def test_puller_that_asks_anew_takes_one_place() -> None:
    places = UploadPlaces(2)
    assert all(places.admit("a", 0.1 * number) for number in range(5))
    assert places.admit("b", 1.0)
    assert not places.admit("c", 1.0)


def test_puller_on_an_unknown_link_that_vanished_keeps_others_out_for_the_first_patience() -> None:
    assert keeps_others_out(UploadPlaces(1), 0.0, {}) == PAUSE_BOUNDS.initial
    assert keeps_others_out(UploadPlaces(1), 0.0, {1.0: 0, 3.0: 1}) == 3.0 + PAUSE_BOUNDS.initial


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.5])
def test_puller_on_a_fast_link_that_vanished_is_gone_soon(pause: float) -> None:
    places, now = taught(pause)
    limit = max(PAUSE_BOUNDS.floor, SLACK * pause)
    assert keeps_others_out(places, now, {}) <= limit
    places, now = taught(pause)
    assert keeps_others_out(places, now, {STEP: 0, 2 * STEP: 1}) <= 2 * STEP + limit


@pytest.mark.parametrize("pause", [3.0, 8.0, 16.0])
def test_puller_on_a_slow_link_keeps_its_place_to_the_end(pause: float) -> None:
    places, now = taught(pause)
    asks = {number * pause: number for number in range(RANGES)}
    # It falls silent after its last range: its place is free after the pause that is usual, and as much again.
    assert keeps_others_out(places, now, asks) == max(asks) + SLACK * pause
    assert places.patience("dawdler", now + max(asks) + pause) >= SLACK * pause


def test_patience_is_for_the_bytes_of_a_reply() -> None:
    places, now = taught(4.0)
    assert places.admit("a", now)
    ask(places, "a", now, 0, 4 * MIB)
    assert places.patience("a", now) == SLACK * 16.0
    places, now = taught(4.0, 4 * MIB)
    assert places.admit("a", now)
    ask(places, "a", now, 0, MIB)
    assert places.patience("a", now) == SLACK * 4.0


def test_patience_grows_with_what_an_upload_itself_needs_and_has_a_ceiling() -> None:
    places = UploadPlaces(1)
    assert places.patience("a", 0.0) == 0.0
    assert places.admit("a", 0.0)
    now = 0.0
    for number, pause in enumerate((0.0, 0.0, 4.0, 20.0, 50.0)):
        now += pause
        before = places.patience("a", now)
        ask(places, "a", now, number)
        assert places.patience("a", now) == before
        assert before == min(max(PAUSE_BOUNDS.initial, SLACK * pause), PAUSE_BOUNDS.ceiling)


def test_link_that_is_slower_than_the_first_patience_shows_it_by_its_first_pause() -> None:
    places = UploadPlaces(1)
    assert places.admit("slow", 0.0)
    for number in range(4):
        ask(places, "slow", 0.0, number)
    assert places.admit("other", 8.0)
    places.cancel("other")
    ask(places, "slow", 8.0, 4)
    assert not places.admit("other", 15.0)
    ask(places, "slow", 16.0, 5)
    assert not places.admit("other", 31.0)
    assert places.admit("other", 32.0)


def test_term_before_anything_is_learnt_is_the_first_one() -> None:
    asks = {number * 1.0: number for number in range(100)}
    assert keeps_others_out(UploadPlaces(1), 0.0, asks) == TERM_BOUNDS.initial


@pytest.mark.parametrize("pause", [0.001, 0.5, 2.0])
def test_dawdler_that_makes_some_progress_keeps_others_out_for_twice_the_usual_time(pause: float) -> None:
    places, now = taught(pause)
    # Each pause as long as it is allowed to be.
    dawdling = max(PAUSE_BOUNDS.floor, SLACK * pause) - STEP
    asks = {number * dawdling: number for number in range(1000)}
    kept = keeps_others_out(places, now, asks)
    # The pauses between eight ranges are seven.
    usual = (RANGES - 1) * pause * max(1.0, kept / dawdling / RANGES)
    assert kept <= max(TERM_BOUNDS.floor, SLACK * usual) + STEP < 100.0


def test_larger_upload_has_its_place_in_proportion_to_what_it_asks_for() -> None:
    places, now = taught(2.0)
    asks = {number * 2.0: number for number in range(10 * RANGES)}
    assert keeps_others_out(places, now, asks) == max(asks) + SLACK * 2.0


def test_asking_for_the_same_again_is_no_progress() -> None:
    places, now = taught(1.0)
    assert keeps_others_out(places, now, {number * 1.0: 0 for number in range(100)}) == PAUSE_BOUNDS.floor
    places, now = taught(1.0)
    # Nor is what lies before the place that it has reached.
    assert keeps_others_out(places, now, {number * 1.0: 99 - number for number in range(99)}) == PAUSE_BOUNDS.floor


@given(st.lists(st.integers(1, 160), min_size=1, max_size=2 * RECENT_TRANSFERS))
def test_term_is_learnt_from_recent_uploads_as_a_deadline_is(counts: list[int]) -> None:
    places, durations = UploadPlaces(1), [STEP * (RANGES - 1) * count for count in counts]
    for number, count in enumerate(counts):
        upload(places, "a", 1000.0 * number, STEP * count)
    recent = durations[-RECENT_TRANSFERS:]
    median = statistics.median(recent)
    spread = statistics.median(abs(each - median) for each in recent)
    term = min(max(SLACK * median, median + 8 * spread, TERM_BOUNDS.floor), TERM_BOUNDS.ceiling)
    asks = {number * 2 * STEP: number for number in range(10_000)}
    # As many bytes as usual in all, so that the term is not scaled.
    assert places.admit("dawdler", 1e6)
    for seconds in asks:
        places.touch("dawdler", 1e6 + seconds, asks[seconds] + 1, 1)
        if places.admit("other", 1e6 + seconds):
            assert seconds == pytest.approx(term, abs=2 * STEP)
            return
    raise AssertionError("the dawdler kept everybody out")


def test_upload_beyond_its_term_goes_on_beside_the_others_and_is_learnt_from() -> None:
    places, now = taught(0.1)
    assert keeps_others_out(places, now, {number * 1.0: number for number in range(10)}) <= 2.0
    ask(places, "dawdler", now + 2.5, 10)
    assert not places.admit("third", now + 2.5)
    for number in range(RECENT_TRANSFERS):
        began = now + 1000.0 * (number + 1)
        upload(places, "dawdler", began, 10.0)
    now += 1e6
    asks = {number * 10.0: number for number in range(RANGES)}
    assert keeps_others_out(places, now, asks) == max(asks) + SLACK * 10.0


def test_hostile_minority_teaches_nothing() -> None:
    places, now = UploadPlaces(1), 0.0
    for number in range(RECENT_TRANSFERS):
        pause = 50.0 if number % 5 < 2 else 0.01
        now = upload(places, f"p{number}", now, pause) + 100.0
    assert places.admit("a", now)
    assert places.patience("a", now) == PAUSE_BOUNDS.floor


def test_upload_that_came_to_nothing_and_a_small_one_teach_nothing() -> None:
    places = UploadPlaces(1)
    for number in range(20):
        began = 1000.0 * number
        assert places.admit("small", began)
        ask(places, "small", began, 0, SMALL_NBYTES)
        places.release("small", began, is_sent)
        assert places.admit("broken", began)
        for asked in range(RANGES):
            ask(places, "broken", began + 3.0 * asked, asked)
        places.cancel("broken")
    assert keeps_others_out(places, 1e6, {}) == PAUSE_BOUNDS.initial


@pytest.mark.parametrize("nbytes, waits", [(SMALL_NBYTES, False), (SMALL_NBYTES + 1, True)])
def test_place_is_free_when_the_last_reply_has_been_sent_and_at_once_for_a_small_upload(
    nbytes: int, waits: bool
) -> None:
    places, sent = UploadPlaces(1), False
    assert places.admit("a", 0.0)
    ask(places, "a", 0.0, 0, nbytes)
    places.release("a", 0.0, lambda: sent)
    assert places.admit("b", 0.5) is not waits
    if waits:
        # Asking for a damaged range once more does not keep the place.
        ask(places, "a", 0.75, 0)
        places.release("a", 0.75, lambda: False)
        sent = True
        assert places.admit("b", 0.8)


def test_last_reply_that_is_never_read_keeps_others_out_no_longer_than_a_pause() -> None:
    places, now = taught(3.0)
    assert places.admit("a", now)
    for number in range(RANGES):
        ask(places, "a", now, number)
    places.release("a", now, lambda: False)
    assert not places.admit("b", now + 5.9)
    assert places.admit("b", now + 6.0)


def test_puller_that_just_had_its_turn_lets_a_refused_one_go_first() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.05)
    places.release("a", 0.1, is_sent)
    assert not places.admit("a", 0.1)
    assert places.admit("b", 0.15)
    places.release("b", 0.2, is_sent)
    # Now it is the other way round: a has been refused, b had the turn.
    assert not places.admit("b", 0.2)
    assert places.admit("a", 0.2)


def test_refused_puller_that_does_not_come_back_is_not_waited_for() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.0)
    places.release("a", 0.0, is_sent)
    assert not places.admit("a", TURN_SECONDS / 2)
    assert places.admit("a", TURN_SECONDS)


def test_pullers_that_ask_in_step_after_long_steps_take_turns() -> None:
    places, served = UploadPlaces(1), {"a": 0, "b": 0}
    for step in range(100):
        now = 4 * TURN_SECONDS * step
        for name in ("a", "b"):
            if places.admit(name, now):
                served[name] += 1
                ended = (name, now + TURN_SECONDS)
        places.release(*ended, is_sent)
    assert sum(served.values()) >= 66 and min(served.values()) >= 33


def test_puller_stands_back_once_for_one_that_asks_seldom() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.0)
    places.release("a", 0.0, is_sent)
    assert not places.admit("a", 4 * TURN_SECONDS)
    assert places.admit("a", 4 * TURN_SECONDS)


def test_puller_does_not_stand_back_for_one_that_was_refused_long_ago() -> None:
    places = UploadPlaces(1)
    assert places.admit("a", 0.0)
    assert not places.admit("b", 0.0)
    places.release("a", 0.0, is_sent)
    assert places.admit("a", WAITING_SECONDS)


def test_puller_alone_is_never_refused() -> None:
    places = UploadPlaces(1)
    for number in range(50):
        upload(places, "a", 0.01 * number, 0.001)


@pytest.mark.parametrize("pullers", [2, 3])
def test_pullers_that_ask_all_the_time_have_nobody_twice_in_a_row(pullers: int) -> None:
    places = UploadPlaces(1)
    turns: list[str] = []
    until = 0.0
    for tick in range(2000):
        now = 0.01 * tick
        if turns and until and now >= until:
            places.release(turns[-1], now, is_sent)
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
    for number in range(3000):
        places.admit(f"puller{number}", 0.1 * number)
        assert len(places._uploads) <= limit * PAUSE_BOUNDS.ceiling / PAUSE_BOUNDS.floor
        assert len(places._refused) <= MOST_WAITING
