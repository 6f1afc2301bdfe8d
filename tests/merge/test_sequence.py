"""Several peers in one exchange against the weighted average of all of them at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.merge import joint_shares, merge
from p2pdl.types import Float32Vector

SHARES = st.lists(st.floats(0.0, 0.95), min_size=1, max_size=6)


def models(count: int, seed: int = 0) -> list[Float32Vector]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(20).astype(np.float32) for _ in range(count)]


def merged_in_turn(own: Float32Vector, peers: list[Float32Vector], shares: list[float]) -> Float32Vector:
    for count, peer in enumerate(peers, start=1):
        own = merge(own, own, peer, joint_shares(shares[:count])[0])
    return own


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_joint_shares_of_means_is_average_of_all_models(count: int) -> None:
    own, *peers = models(count + 1)
    shares = [joint_shares([0.5] * k)[0] for k in range(1, count + 1)]
    assert shares == [1 / (k + 1) for k in range(1, count + 1)]
    expected = np.mean([own, *peers], axis=0, dtype=np.float64)
    np.testing.assert_allclose(merged_in_turn(own, peers, [0.5] * count), expected, atol=1e-6)


@given(shares=SHARES)
def test_joint_shares_any_rule_gives_each_model_its_mass(shares: list[float]) -> None:
    own, *peers = models(len(shares) + 1)
    masses = [1.0, *(share / (1 - share) for share in shares)]
    expected = np.average([own, *peers], axis=0, weights=masses)
    np.testing.assert_allclose(merged_in_turn(own, peers, shares), expected, atol=1e-5)


def test_joint_shares_with_local_progress_needs_the_base_to_follow() -> None:
    base, first, second = models(3)
    progress = np.full(20, 0.25, np.float32)
    own = merge(base + progress, base, first, joint_shares([0.5])[0])
    base = merge(base, base, first, joint_shares([0.5])[0])
    own = merge(own, base, second, joint_shares([0.5, 0.5])[0])
    expected = np.mean(models(3), axis=0, dtype=np.float64) + 0.25
    np.testing.assert_allclose(own, expected, atol=1e-6)


def test_joint_shares_one_peer_is_the_rule_itself() -> None:
    assert joint_shares([0.75])[0] == pytest.approx(0.75)
    assert joint_shares([0.0])[0] == 0.0
    assert joint_shares([1.0])[0] == 1.0


def test_joint_shares_whole_peers_leave_nothing_to_others_and_share_evenly() -> None:
    assert [joint_shares(prefix)[0] for prefix in ([0.5], [0.5, 1.0], [0.5, 1.0, 0.9])] == [0.5, 1.0, 0.0]
    assert joint_shares([1.0, 0.3, 1.0])[0] == 0.5


@pytest.mark.parametrize("shares", [[], [1.5], [-0.1, 0.5], [float("nan")]])
def test_joint_shares_no_shares_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        joint_shares(shares)


@given(shares=SHARES, before=st.integers(0, 5))
def test_joint_shares_at_once_give_each_model_its_mass(shares: list[float], before: int) -> None:
    before = min(before, len(shares))
    own, *peers = models(len(shares) + 1)
    masses = [1.0, *(share / (1 - share) for share in shares)]
    base = merged_in_turn(own, peers[:before], shares[:before])
    merged = base.copy()
    for peer, share in zip(peers[before:], joint_shares(shares, len(shares) - before), strict=True):
        merged += np.float32(share) * (peer - base)
    expected = np.average([own, *peers], axis=0, weights=masses)
    np.testing.assert_allclose(merged, expected, atol=1e-5)


def test_joint_shares_at_once_of_whole_peers_share_evenly() -> None:
    assert joint_shares([0.5, 1.0, 0.3, 1.0], 3) == [0.5, 0.0, 0.5]
    assert joint_shares([0.5], 0) == []
    with pytest.raises(ValueError, match="2 at least"):
        joint_shares([0.5], 2)
