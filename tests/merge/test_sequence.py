"""Several peers in one exchange against the weighted average of all of them at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.merge import merge, sequential_share
from p2pdl.types import Float32Vector

SHARES = st.lists(st.floats(0.0, 0.95), min_size=1, max_size=6)


def models(count: int, seed: int = 0) -> list[Float32Vector]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(20).astype(np.float32) for _ in range(count)]


def merged_in_turn(own: Float32Vector, peers: list[Float32Vector], shares: list[float]) -> Float32Vector:
    for count, peer in enumerate(peers, start=1):
        own = merge(own, own, peer, sequential_share(shares[:count]))
    return own


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_sequential_share_of_means_is_average_of_all_models(count: int) -> None:
    own, *peers = models(count + 1)
    shares = [sequential_share([0.5] * k) for k in range(1, count + 1)]
    assert shares == [1 / (k + 1) for k in range(1, count + 1)]
    expected = np.mean([own, *peers], axis=0, dtype=np.float64)
    np.testing.assert_allclose(merged_in_turn(own, peers, [0.5] * count), expected, atol=1e-6)


@given(shares=SHARES)
def test_sequential_share_any_rule_gives_each_model_its_mass(shares: list[float]) -> None:
    own, *peers = models(len(shares) + 1)
    masses = [1.0, *(share / (1 - share) for share in shares)]
    expected = np.average([own, *peers], axis=0, weights=masses)
    np.testing.assert_allclose(merged_in_turn(own, peers, shares), expected, atol=1e-5)


def test_sequential_share_with_local_progress_needs_the_base_to_follow() -> None:
    base, first, second = models(3)
    progress = np.full(20, 0.25, np.float32)
    own = merge(base + progress, base, first, sequential_share([0.5]))
    base = merge(base, base, first, sequential_share([0.5]))
    own = merge(own, base, second, sequential_share([0.5, 0.5]))
    expected = np.mean(models(3), axis=0, dtype=np.float64) + 0.25
    np.testing.assert_allclose(own, expected, atol=1e-6)


def test_sequential_share_one_peer_is_the_rule_itself() -> None:
    assert sequential_share([0.75]) == pytest.approx(0.75)
    assert sequential_share([0.0]) == 0.0
    assert sequential_share([1.0]) == 1.0


def test_sequential_share_whole_peers_leave_nothing_to_others_and_share_evenly() -> None:
    assert [sequential_share(prefix) for prefix in ([0.5], [0.5, 1.0], [0.5, 1.0, 0.9])] == [0.5, 1.0, 0.0]
    assert sequential_share([1.0, 0.3, 1.0]) == 0.5


@pytest.mark.parametrize("shares", [[], [1.5], [-0.1, 0.5], [float("nan")]])
def test_sequential_share_no_shares_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        sequential_share(shares)
