"""Republication against the pauses that its rule has, and the share of the time that they come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.republication import LONGEST_SECONDS, READ_COST, UNREAD_COST, Republication


def pauses(cost: float, read: list[bool]) -> list[float]:
    """Seconds from each publication to the next, of a node that takes a step every thousandth of its patience."""
    republication, now, found = Republication(), 0.0, []
    assert republication.is_due(now, False)
    republication.published(now, cost, False)
    for was_read in read:
        begun = now
        while not republication.is_due(now, was_read):
            now += cost / 10
        found.append(now - begun)
        republication.published(now, cost, was_read)
    return found


def test_a_version_that_was_read_is_replaced_at_once() -> None:
    assert pauses(0.01, [True] * 3) == pytest.approx([READ_COST * 0.01] * 3, abs=0.0011)


def test_unread_versions_are_replaced_later_and_later_until_the_longest_pause() -> None:
    assert pauses(0.001, [False] * 7) == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0], abs=0.0011)


def test_a_reader_brings_short_pauses_back() -> None:
    found = pauses(0.001, [False, False, False, True, False, False])
    assert found == pytest.approx([0.05, 0.1, 0.2, 0.005, 0.05, 0.1], abs=0.0011)


def test_a_costly_version_is_replaced_no_later_for_being_unread() -> None:
    assert pauses(0.1, [False] * 4) == pytest.approx([UNREAD_COST * 0.1] * 4, abs=0.011)


@given(cost=st.floats(1e-4, 0.2), read=st.lists(st.booleans(), max_size=20))
def test_unread_versions_cost_a_fiftieth_at_most_and_nothing_gets_old(cost: float, read: list[bool]) -> None:
    republication, now = Republication(), 0.0
    republication.published(now, cost, False)
    for was_read in read:
        soonest = (READ_COST if was_read else UNREAD_COST) * cost
        latest = READ_COST * cost if was_read else max(UNREAD_COST * cost, LONGEST_SECONDS)
        assert not republication.is_due(now + 0.999 * soonest, was_read)
        assert republication.is_due(now + 1.001 * latest, was_read)
        now += 1.001 * latest
        republication.published(now, cost, was_read)
