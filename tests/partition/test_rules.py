"""What each partition does by its own rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p2pdl.errors import DataUnavailable
from p2pdl.partition import partition

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 400))


def class_counts(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Samples of each class on each node, shape (nodes, 10)."""
    return np.array([np.bincount(LABELS[part], minlength=10) for part in parts])


@given(samples=st.integers(1, 300), nodes=st.integers(1, 20))
@settings(deadline=None)
def test_iid_any_size_differs_by_one_sample_at_most(samples: int, nodes: int) -> None:
    if samples >= nodes:
        sizes = [part.size for part in partition("iid", np.zeros(samples, np.int64), nodes, seed=1)]
        assert max(sizes) - min(sizes) <= 1


def test_iid_classes_are_spread_as_by_chance() -> None:
    counts = class_counts(partition("iid", LABELS, 4, seed=0))
    # Hypergeometric around 100 of each class on each node, standard deviation 8.
    assert np.abs(counts - 100).max() < 40


@pytest.mark.parametrize("name", ["iid", "dirichlet"])
def test_partition_other_seed_is_another_partition(name: str) -> None:
    first, second = (partition(name, LABELS, 4, seed) for seed in (0, 1))
    assert not np.array_equal(first[0], second[0])


def test_by_class_ten_classes_four_nodes_are_dealt_round() -> None:
    counts = class_counts(partition("by-class", LABELS, 4, seed=0))
    for node in range(4):
        assert np.flatnonzero(counts[node]).tolist() == list(range(node, 10, 4))
    assert (counts.sum(axis=0) == 400).all()


def test_by_class_fewer_classes_than_nodes_share_a_class_evenly() -> None:
    labels = np.repeat([3, 7, 8], [10, 21, 30])
    parts = partition("by-class", labels, 7, seed=0)
    assert [set(labels[part]) for part in parts] == [{3}, {7}, {8}, {3}, {7}, {8}, {3}]
    assert [part.size for part in parts] == [4, 11, 15, 3, 10, 15, 3]


def test_by_class_class_smaller_than_its_nodes_is_refused() -> None:
    with pytest.raises(DataUnavailable, match="class 3 has 2 samples for 3 nodes") as caught:
        partition("by-class", np.repeat([3, 7], [2, 50]), 5, seed=0)
    assert "dirichlet" in caught.value.remedy


def test_more_nodes_than_samples_is_refused_with_remedy() -> None:
    with pytest.raises(DataUnavailable, match="3 training samples cannot be dealt out to 4 nodes") as caught:
        partition("iid", np.arange(3), 4, seed=0)
    assert "data.partition to all" in caught.value.remedy


def test_dirichlet_proportions_have_moments_of_the_distribution() -> None:
    nodes, alpha = 4, 0.3
    shares = np.concatenate(
        [class_counts(partition("dirichlet", LABELS, nodes, seed, alpha)).ravel() / 400 for seed in range(60)]
    )
    assert shares.mean() == pytest.approx(1 / nodes)
    # Var of one component of Dir(alpha) over k nodes: (k - 1) / (k^2 (k alpha + 1)); 600 draws of 4 shares.
    assert shares.var() == pytest.approx((nodes - 1) / (nodes**2 * (nodes * alpha + 1)), rel=0.1)


def test_dirichlet_larger_alpha_is_less_skewed() -> None:
    skews = [class_counts(partition("dirichlet", LABELS, 4, 2, alpha)).std() for alpha in (0.05, 0.3, 3.0, 1e308)]
    assert skews == sorted(skews, reverse=True)
    assert skews[-1] < 2


@pytest.mark.parametrize("alpha", [1e-300, 1e-4, 0.01])
def test_dirichlet_extreme_skew_leaves_every_node_its_least(alpha: float) -> None:
    for seed in range(3):
        sizes = [part.size for part in partition("dirichlet", LABELS, 20, seed, alpha)]
        assert min(sizes) >= 2
        assert sum(sizes) == 4000


def test_dirichlet_as_many_nodes_as_samples_gives_one_each() -> None:
    parts = partition("dirichlet", np.arange(12) % 3, 12, seed=0, alpha=0.3)
    assert [part.size for part in parts] == [1] * 12


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_dirichlet_wrong_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number above 0"):
        partition("dirichlet", LABELS, 4, 0, alpha)
