"""Rumours: what was sent least goes first, each so many times; and in which order members have their turns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.membership.rumours import Rumours
from p2pdl.protocol.membership.turns import Turns

NAMES = [f"n{number}" for number in range(20)]


def rumours_of(names: list[str]) -> Rumours:
    rumours = Rumours()
    for name in names:
        rumours.add(name)
    return rumours


@given(count=st.integers(1, 8), limit=st.integers(1, 12), names=st.lists(st.sampled_from(NAMES), unique=True))
def test_each_rumour_is_sent_so_many_times_and_the_least_sent_first(count: int, limit: int, names: list[str]) -> None:
    rumours, sends = rumours_of(names), Counter(dict.fromkeys(names, 0))
    while rumours:
        left = len(rumours)
        picked = rumours.pick(count, limit, told=())
        assert len(set(picked)) == len(picked) == min(count, left)
        for name in picked:
            sends[name] += 1
        others = [sends[name] for name in names if name not in picked and sends[name] < limit]
        assert all(sends[name] - 1 <= fewest for name in picked for fewest in [min(others, default=limit)])
    assert set(sends.values()) <= {limit}


def test_the_newest_of_those_sent_equally_often_goes_first() -> None:
    rumours = rumours_of(["b", "c", "d"])
    assert rumours.pick(2, 9, told=()) == ["d", "c"]
    rumours.add("e")
    assert rumours.pick(2, 9, told=()) == ["e", "b"]


def test_news_about_the_same_member_starts_anew() -> None:
    rumours = rumours_of(["b"])
    for _ in range(3):
        assert rumours.pick(1, 4, told=()) == ["b"]
    rumours.add("b")
    assert sum(bool(rumours.pick(1, 4, told=())) for _ in range(9)) == 4


def test_what_a_message_tells_anyway_counts_but_takes_no_room() -> None:
    rumours = rumours_of(["b", "c"])
    assert rumours.pick(1, 1, told=("c",)) == ["b"]
    assert not rumours


def test_what_the_receiver_knows_is_kept_for_others() -> None:
    rumours = rumours_of(["b", "c"])
    assert rumours.pick(8, 1, told=(), skip=("c",)) == ["b"]
    assert rumours.pick(8, 1, told=()) == ["c"]


def test_dropped_rumour_is_not_sent() -> None:
    rumours = rumours_of(["b", "c"])
    rumours.drop("b")
    rumours.drop("never heard of")
    assert (len(rumours), rumours.pick(8, 9, told=())) == (1, ["c"])


@given(seed=st.integers(0, 99), count=st.integers(1, 20))
def test_each_member_has_one_turn_in_each_pass(seed: int, count: int) -> None:
    turns, names = Turns(np.random.default_rng(seed)), NAMES[:count]
    passes = [[turns.next(names, lambda name: True) for _ in names] for _ in range(3)]
    assert all(sorted(str(name) for name in order) == sorted(names) for order in passes)


def test_passes_are_in_random_order() -> None:
    turns = Turns(np.random.default_rng(0))
    orders = {tuple(turns.next(NAMES, lambda name: True) for _ in NAMES) for _ in range(20)}
    assert len(orders) == 20


@pytest.mark.parametrize("seed", range(5))
def test_new_member_has_its_first_turn_in_the_present_pass(seed: int) -> None:
    turns = Turns(np.random.default_rng(seed))
    first = turns.next(NAMES, lambda name: True)
    turns.add(["new", NAMES[0]])
    rest = [turns.next([], lambda name: True) for _ in range(20)]
    assert rest.count("new") == 1 and None not in rest[:19]
    assert rest.count(NAMES[0]) + (first == NAMES[0]) in (1, 2)


def test_nobody_has_a_turn_where_nobody_is_fit() -> None:
    turns = Turns(np.random.default_rng(0))
    assert turns.next([], lambda name: True) is None
    assert turns.next(NAMES, lambda name: False) is None
    assert turns.next(NAMES, lambda name: name == "n7") == "n7"
