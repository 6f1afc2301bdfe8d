"""Clipping against a plain numpy oracle: what is merged is never longer than the radius, whoever sends it."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import RejectedWeights
from p2pdl.merge import DEFAULT_CLIP, Clipping, Distance
from p2pdl.merge.clipping import FEWEST, FIRST_SHARE, LEAST_SHARE, REJECT, UNRELATED, WINDOW

PEERS = ["a", "b", "c", "d"]
ENTRIES = 64
ROOT = math.sqrt(ENTRIES)


def factor(
    clipping: Clipping, peer: str, each: float, own: float = 1.0, answering: Collection[str] = PEERS, **other: object
) -> float:
    """The factor for a model whose entries differ by `each`, in the root of the mean square."""
    distance = Distance(each * ROOT, ENTRIES, bool(other.get("sparse", False)))
    return clipping.factor(peer, distance, lambda: own, lambda: answering, other.get("part"))  # type: ignore[arg-type]


def usual(accepted: list[tuple[str, float]]) -> float:
    """The lower median over peers of each one's lower median, by numpy."""
    recent = accepted[-WINDOW:]
    by_peer = [[length for name, length in recent if name == peer] for peer in {name for name, _ in recent}]
    return float(np.quantile([np.quantile(lengths, 0.5, method="lower") for lengths in by_peer], 0.5, method="lower"))


@given(
    radius=st.floats(0.5, 10.0),
    pulls=st.lists(st.tuples(st.sampled_from(PEERS), st.floats(1e-6, 1e3)), max_size=120),
    own=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_factor_equals_the_numpy_oracle_pull_after_pull(
    radius: float, pulls: list[tuple[str, float]], own: float
) -> None:
    clipping = Clipping(radius)
    accepted: list[tuple[str, float]] = []
    apart: set[str] = set()
    for peer, each in pulls:
        known = FIRST_SHARE * own if len(accepted) < FEWEST else usual(accepted)
        limit = radius * known
        if each > limit:
            limit = radius * max(known, LEAST_SHARE * own)
        # A hair's breadth from a border, which side it is on is a matter of rounding.
        borders = (REJECT * limit, limit, radius * known, UNRELATED * own)
        close = min(abs(each / border - 1) for border in borders)
        if close < 1e-9:
            return
        if each > REJECT * limit:
            apart.add(peer)
            is_few = 2 * len(apart) <= len(PEERS)
            if is_few and each <= UNRELATED * own and (len(accepted) < FEWEST or 2 * len(apart) == len(PEERS)):
                drawn = max(limit, min(1.0, radius) * FIRST_SHARE * own)
                assert factor(clipping, peer, each, own) == pytest.approx(min(1.0, drawn / each), rel=1e-9)
                continue
            if is_few or each > UNRELATED * own:
                with pytest.raises(RejectedWeights) as refusal:
                    factor(clipping, peer, each, own)
                assert refusal.value.code == "distance" and refusal.value.remedy
                assert refusal.value.message.startswith(f"{peer}: ")
                continue
        else:
            apart.discard(peer)
        found = factor(clipping, peer, each, own)
        assert found == pytest.approx(min(1.0, limit / each), rel=1e-9)
        assert found * each <= limit * (1 + 1e-12)
        accepted.append((peer, min(each, limit)))


def test_honest_peers_are_merged_whole() -> None:
    clipping, random = Clipping(), np.random.default_rng(0)
    for _ in range(500):
        assert factor(clipping, random.choice(PEERS), 0.004 * random.lognormal(0.0, 0.25)) == 1.0


def test_first_distances_are_bounded_by_ones_own_weights() -> None:
    limit = DEFAULT_CLIP * FIRST_SHARE * 2.0
    for number in range(FEWEST):
        clipping = Clipping()
        for _ in range(number):
            assert factor(clipping, "a", 1e-5, own=2.0) == 1.0
        assert factor(clipping, "b", limit, own=2.0) == 1.0
        assert factor(Clipping(), "b", 10 * limit, own=2.0) == pytest.approx(0.1)
        with pytest.raises(RejectedWeights):
            factor(Clipping(), "b", 1.01 * UNRELATED * 2.0, own=2.0)


def test_peers_that_began_earlier_are_drawn_near_at_the_start_and_teach_no_radius() -> None:
    clipping = Clipping()
    limit = DEFAULT_CLIP * FIRST_SHARE
    for _ in range(2 * FEWEST):
        assert factor(clipping, "ahead", 1.4) == pytest.approx(limit / 1.4)
    for peer in "abc":
        assert factor(clipping, peer, 0.005) == 1.0
    assert factor(clipping, "a", 0.03) == pytest.approx(0.5)
    with pytest.raises(RejectedWeights):
        factor(clipping, "ahead", 1.4)


def test_weights_that_are_all_zero_take_what_comes() -> None:
    clipping = Clipping()
    assert factor(clipping, "a", 5.0, own=0.0) == 1.0


def test_nodes_that_had_agreed_to_the_last_bit_come_apart_again() -> None:
    clipping = Clipping()
    for number in range(WINDOW):
        assert factor(clipping, PEERS[number % 4], 0.0) == 1.0
    assert factor(clipping, "a", DEFAULT_CLIP * LEAST_SHARE) == 1.0
    # From now on everybody is a thousandth away: within some tens of pulls nobody is held back.
    factors = [factor(clipping, PEERS[number % 4], 1e-3) for number in range(4 * WINDOW)]
    assert factors[0] < 1.0 and factors[-20:] == [1.0] * 20


def test_half_of_the_peers_cannot_raise_the_radius_however_often_they_are_heard() -> None:
    clipping = Clipping()
    for _ in range(20):
        for honest in "ab":
            assert factor(clipping, honest, 0.01) == 1.0
        for _ in range(5):
            for liar in "cd":
                assert factor(clipping, liar, 0.5) <= 0.03 / 0.5 + 1e-12


def test_what_is_refused_does_not_count() -> None:
    clipping = Clipping()
    for peer in "abc":
        factor(clipping, peer, 0.01)
    for _ in range(2 * WINDOW):
        with pytest.raises(RejectedWeights, match="d: its weights are"):
            factor(clipping, "d", 1.0)
    assert factor(clipping, "a", 0.06) == pytest.approx(0.5)


def test_node_that_was_away_is_drawn_to_the_others_though_all_of_them_are_far() -> None:
    clipping = Clipping()
    for number in range(20):
        factor(clipping, PEERS[number % 4], 0.001)
    distance, refused, pulls = 1.0, 0, 0
    while distance > 0.001:
        try:
            distance *= 1.0 - 0.5 * factor(clipping, PEERS[pulls % 4], distance)
        except RejectedWeights:
            refused += 1
        pulls += 1
        assert pulls < 400
    assert refused == 1


@pytest.mark.parametrize("half", [1, 2])
def test_halves_of_a_ring_that_was_cut_come_together_though_half_of_the_neighbours_are_near(half: int) -> None:
    clipping, peers = Clipping(), PEERS[: 2 * half]
    for number in range(20):
        factor(clipping, peers[number % len(peers)], 0.001, answering=peers)
    distance, refused, pulls = 1.0, 0, 0
    while distance > REJECT * 0.003:
        assert factor(clipping, peers[0], 0.001, answering=peers) == 1.0
        try:
            moved = factor(clipping, peers[half + pulls % half], distance, answering=peers)
            assert moved == pytest.approx(FIRST_SHARE / distance)
            distance *= 1.0 - 0.5 * moved
        except RejectedWeights:
            refused += 1
        pulls += 1
        assert pulls < 1000
    assert refused == half - 1


@pytest.mark.parametrize("peers", [["a"], ["a", "b"]])
def test_node_that_hears_only_of_broken_models_does_not_follow_them(peers: list[str]) -> None:
    clipping = Clipping()
    for number in range(100):
        for each in (2.0, 999.0):
            with pytest.raises(RejectedWeights):
                factor(clipping, peers[number % len(peers)], each, answering=peers)


def test_two_nodes_that_were_begun_apart_come_together() -> None:
    clipping, distance, pulls = Clipping(), math.sqrt(2.0), 0
    while distance > 0.01:
        distance *= 1.0 - 0.5 * factor(clipping, "a", distance, answering=["a"])
        pulls += 1
        assert pulls < 100


@pytest.mark.parametrize("length", [math.inf, math.nan])
@pytest.mark.parametrize("radius", [None, DEFAULT_CLIP])
def test_difference_that_float32_does_not_hold_is_refused_whatever_the_radius(
    radius: float | None, length: float
) -> None:
    with pytest.raises(RejectedWeights, match="too far .* for float32") as refusal:
        Clipping(radius).factor("a", Distance(length, 4), lambda: 1.0, lambda: PEERS)
    assert refusal.value.code == "distance"


def test_without_a_radius_everything_finite_is_merged_whole() -> None:
    clipping = Clipping(None)
    for each in (0.001, 1e30, 1e-30):
        assert factor(clipping, "a", each) == 1.0


def test_parts_and_deltas_have_histories_of_their_own() -> None:
    clipping = Clipping()
    for _ in range(10):
        for peer in PEERS:
            assert factor(clipping, peer, 0.001, part=range(2)) == 1.0
            assert factor(clipping, peer, 0.02, part=range(2, 4)) == 1.0
            assert factor(clipping, peer, 0.03, part=range(2), sparse=True) == 1.0
    assert factor(clipping, "a", 0.01, part=range(2)) == pytest.approx(0.3)
    assert factor(clipping, "a", 0.06, part=range(2, 4)) == 1.0


def test_distance_is_compared_entry_by_entry_and_nothing_is_no_distance() -> None:
    clipping = Clipping()
    for peer in PEERS:
        assert clipping.factor(peer, Distance(0.01 * 100, 10_000), lambda: 1.0, lambda: PEERS) == 1.0
    for _ in range(10):
        assert clipping.factor("a", Distance(0.0, 0), lambda: 1.0, lambda: PEERS) == 1.0
    assert clipping.factor("b", Distance(0.06 * 10, 100), lambda: 1.0, lambda: PEERS) == pytest.approx(0.5)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan])
def test_radius_must_be_above_zero(radius: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Clipping(radius)
