"""Quarantine: three refusals lead into it, it grows and stays finite, and silence has no part in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import PeerError, PeerRefused, PeerTimeout, RejectedWeights
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import LONGEST_PAUSE, TRANSIENT_PAUSES, Neighbours
from p2pdl.protocol.quarantine import FIRST_TERM, LONGEST_TERM, STRIKE_CODES, STRIKES, Conduct
from p2pdl.topology import create

NODES = ["a", "b", "c", "d"]
TIMEOUT = PeerTimeout("b: no answer for 10 s")
NOT_FINITE = RejectedWeights("b: its weights are not finite", code="not-finite")
SNAPSHOT = SnapshotReply("life", 1, 1, 64, 0.5, False, 1, 16, 0.0)


def neighbours() -> Neighbours:
    return Neighbours("a", "bcd", create("random", NODES, peers=1), np.random.default_rng(0))


def refuse(known: Neighbours, now: float, times: int = STRIKES, error: PeerError = NOT_FINITE) -> list[bool]:
    """What was news."""
    return [known.on_failure("b", error, now) for _ in range(times)]


def test_terms_double_from_a_minute_to_an_hour_and_no_further() -> None:
    assert (STRIKES, FIRST_TERM, LONGEST_TERM) == (3, 60.0, 3600.0)
    conduct = Conduct()
    terms = [conduct.on_refusal() for _ in range(2000)]
    assert terms[:9] == [None, None, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0]
    assert set(terms[9:]) == {3600.0}


def test_good_pull_wipes_the_strikes_and_takes_one_term_back() -> None:
    conduct = Conduct()
    for _ in range(STRIKES + 2):
        conduct.on_refusal()
    conduct.on_good_pull()
    assert [conduct.on_refusal() for _ in range(STRIKES)] == [None, None, 240.0]
    for _ in range(9):
        conduct.on_good_pull()
    assert [conduct.on_refusal() for _ in range(STRIKES)] == [None, None, 60.0]


@given(st.lists(st.booleans(), max_size=200))
def test_quarantine_needs_three_refusals_in_a_row_and_is_always_finite(refusals: list[bool]) -> None:
    conduct, row = Conduct(), 0
    for refused in refusals:
        if not refused:
            conduct.on_good_pull()
            row = 0
            continue
        row += 1
        term = conduct.on_refusal()
        assert (term is None) == (row < STRIKES)
        assert term is None or FIRST_TERM <= term <= LONGEST_TERM


@pytest.mark.parametrize("code", sorted(STRIKE_CODES))
def test_peer_is_left_alone_after_three_refusals_and_that_is_news_once(code: str) -> None:
    known, error = neighbours(), PeerError("b: of no use", code=code)
    assert refuse(known, 100.0, error=error) == [True, False, True]
    record = known.records["b"]
    assert (record.state, record.pause_until, record.last_error) == ("quarantined", 160.0, "b: of no use")
    assert ("b",) not in {known.choose(159.9) for _ in range(100)}
    assert ("b",) in {known.choose(160.0) for _ in range(100)}
    # One try, and what comes is refused again.
    assert refuse(known, 160.0, 1, error) == [False]
    assert (record.state, record.pause_until) == ("quarantined", 280.0)


@pytest.mark.parametrize("error", [TIMEOUT, PeerRefused("b: no", code="refused"), PeerError("b: ?", code="internal")])
def test_silence_and_refused_requests_are_no_strikes(error: PeerError) -> None:
    known = neighbours()
    for _ in range(100):
        known.on_failure("b", error, 0.0)
    record = known.records["b"]
    assert (record.state, record.conduct.strikes) == ("failing", 0)
    assert record.pause_until <= 1.25 * LONGEST_PAUSE


def test_good_pull_ends_quarantine_and_is_news() -> None:
    known = neighbours()
    refuse(known, 0.0)
    assert known.on_success("b", SNAPSHOT)
    assert known.records["b"].state == "live"
    assert refuse(known, 0.0) == [True, False, True]


def test_silence_after_quarantine_is_an_ordinary_failure_and_the_strikes_remain() -> None:
    known = neighbours()
    refuse(known, 0.0)
    assert known.on_failure("b", TIMEOUT, 60.0)
    record = known.records["b"]
    assert record.state == "failing" and record.pause_until <= 60.0 + 1.25 * LONGEST_PAUSE
    assert refuse(known, 100.0, 1) == [True]
    assert (record.state, record.pause_until) == ("quarantined", 220.0)


@pytest.mark.parametrize("code", sorted(TRANSIENT_PAUSES))
def test_busy_or_new_peer_stays_as_it_was(code: str) -> None:
    known = neighbours()
    refuse(known, 0.0)
    assert not known.on_failure("b", PeerRefused("b: later", code=code), 60.0)
    assert known.records["b"].state == "quarantined" and known.records["b"].pause_until < 61.0


def test_peer_in_quarantine_answers_and_silent_ones_do_not() -> None:
    known = neighbours()
    refuse(known, 0.0)
    known.on_failure("c", TIMEOUT, 0.0)
    assert known.answering() == {"b", "d"}
    refuse(known, 0.0, 1, TIMEOUT)
    assert known.answering() == {"d"}


def test_run_does_not_end_on_an_exchange_with_a_peer_in_quarantine() -> None:
    known = neighbours()
    known.on_success("b", SNAPSHOT)
    assert known.choose_last() == ("b",)
    refuse(known, 0.0)
    assert known.choose_last() == ()
