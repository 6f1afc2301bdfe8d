"""Who stands apart: a few peers do, or this node does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.merge import Outliers

NAMES = [f"peer{number}" for number in range(9)]


@pytest.mark.parametrize("peers, few", [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (9, 4)])
def test_up_to_half_of_the_peers_are_refused(peers: int, few: int) -> None:
    outliers, answering = Outliers(), NAMES[:peers]
    refused = [outliers.on_apart(peer, answering) for peer in answering]
    assert refused == [True] * few + [False] * (peers - few)


def test_peer_that_is_near_again_is_no_outlier() -> None:
    outliers, answering = Outliers(), NAMES[:4]
    for peer in answering[:2]:
        assert outliers.on_apart(peer, answering)
    assert not outliers.on_apart(answering[2], answering)
    outliers.on_near(answering[0])
    assert outliers.on_apart(answering[2], answering)


def test_peers_that_have_fallen_silent_have_no_say() -> None:
    outliers = Outliers()
    for peer in NAMES[:4]:
        outliers.on_apart(peer, NAMES)
    assert outliers.on_apart(NAMES[5], NAMES[4:8])
    assert not outliers.on_apart(NAMES[5], NAMES[5:6])


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=60), st.integers(1, 9))
def test_refused_are_never_more_than_half(events: list[tuple[str, bool]], peers: int) -> None:
    outliers, answering, apart = Outliers(), NAMES[:peers], set()
    for peer, is_apart in events:
        if peer not in answering:
            continue
        if is_apart:
            apart.add(peer)
            assert outliers.on_apart(peer, answering) == (2 * len(apart) <= peers)
        else:
            apart.discard(peer)
            outliers.on_near(peer)
