"""What every partition must do, whatever its rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.errors import DataUnavailable
from p2pdl.partition import PARTITIONS, Labels, partition

EVERY_PARTITION = pytest.mark.parametrize("name", PARTITIONS)
CASES = settings(max_examples=60, deadline=None)


@st.composite
def training_sets(draw: st.DrawFn) -> Labels:
    """Labels of up to 400 samples in up to 12 classes, not all of them consecutive or present."""
    samples, classes = draw(st.integers(1, 400)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return rng.integers(0, classes, samples) * draw(st.integers(1, 3)) - draw(st.integers(0, 3))


@EVERY_PARTITION
@CASES
@given(
    labels=training_sets(),
    nodes=st.integers(1, 16),
    seed=st.integers(0, 2**31),
    alpha=st.sampled_from([1e-3, 0.05, 0.3, 1.0, 100.0, 1e308]),
)
def test_partition_any_training_set_is_disjoint_complete_and_repeatable(
    name: str, labels: Labels, nodes: int, seed: int, alpha: float
) -> None:
    try:
        parts = partition(name, labels, nodes, seed, alpha)
    except DataUnavailable as error:
        smallest = np.unique(labels, return_counts=True)[1].min()
        assert len(labels) < nodes or (name == "by-class" and smallest < nodes)
        assert error.remedy
        return
    assert len(parts) == nodes
    for part in parts:
        assert part.dtype == np.int64
        assert part.ndim == 1
        assert part.size > 0
        assert (np.diff(part) > 0).all()
    everything = np.arange(len(labels))
    if name == "all":
        assert all(np.array_equal(part, everything) for part in parts)
    else:
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), everything)
    again = partition(name, labels, nodes, seed, alpha)
    assert all(np.array_equal(*pair) for pair in zip(parts, again, strict=True))


@EVERY_PARTITION
def test_partition_one_node_gets_everything(name: str) -> None:
    labels = np.arange(50) % 7
    (part,) = partition(name, labels, 1, seed=3)
    np.testing.assert_array_equal(part, np.arange(50))


@EVERY_PARTITION
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_partition_dtype_of_labels_does_not_matter(name: str, dtype: type) -> None:
    labels = np.arange(90) % 10
    expected = partition(name, labels, 3, seed=5)
    actual = partition(name, labels.astype(dtype), 3, seed=5)
    assert all(np.array_equal(*pair) for pair in zip(actual, expected, strict=True))


@EVERY_PARTITION
def test_partition_empty_training_set_is_refused(name: str) -> None:
    with pytest.raises(DataUnavailable, match="0 training samples"):
        partition(name, np.zeros(0, np.int64), 2, seed=0)


@EVERY_PARTITION
def test_partition_no_nodes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="0 nodes"):
        partition(name, np.arange(10), 0, seed=0)


@EVERY_PARTITION
@pytest.mark.parametrize("shape", [(20, 10), (20,)])
def test_partition_labels_not_classes_are_dealt_out_or_refused(name: str, shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape, np.float32)
    if name in ("iid", "all"):
        assert len(partition(name, labels, 2, seed=0)) == 2
    else:
        with pytest.raises(DataUnavailable, match="one integer class per sample") as caught:
            partition(name, labels, 2, seed=0)
        assert "iid" in caught.value.remedy


def test_partition_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'random'.*iid, dirichlet, by-class, all"):
        partition("random", np.arange(10), 2, seed=0)
