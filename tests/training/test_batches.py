"""Batches: full, in every pass each sample once, and a function of seed, node and step alone."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import DataUnavailable
from p2pdl.training.batches import Batches


def numbered(count: int, batch_size: int, **others) -> Batches:
    """Batches of samples whose only value is their own number; every second one is this node's."""
    x = np.arange(2 * count, dtype=np.float32)[:, None]
    y = np.arange(2 * count, dtype=np.int32)
    return Batches(x, y, np.arange(0, 2 * count, 2), batch_size, **{"seed": 1, "node_index": 0, **others})


def labels(batches: Batches, steps: range) -> np.ndarray:
    return np.concatenate([batches.batch(step)[1] for step in steps])


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), passes=st.integers(1, 4))
def test_every_pass_has_each_sample_once_in_full_batches(count, batch_size, passes):
    batches = numbered(count, batch_size)
    steps = batches.steps_for(passes)
    drawn = [batches.next() for _ in range(steps)]
    for x, y in drawn:
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((batch_size, 1), np.float32, (batch_size,), np.int32)
        np.testing.assert_array_equal(x[:, 0], y)
    row = np.concatenate([y for _, y in drawn])
    for number in range(passes):
        part = row[number * count : (number + 1) * count]
        np.testing.assert_array_equal(np.sort(part), np.arange(0, 2 * count, 2))
    assert (steps - 1) * batch_size < passes * count <= steps * batch_size
    assert batches.passes_done == pytest.approx(steps * batch_size / count)
    assert batches.step == steps


@given(step=st.integers(0, 200))
def test_batch_depends_on_nothing_but_its_step(step):
    in_turn, at_once = numbered(10, 4), numbered(10, 4)
    in_turn.step = step
    for number in (7, 0, 99):
        in_turn.batch(number)
    np.testing.assert_array_equal(in_turn.next()[1], at_once.batch(step)[1])


def test_resumed_run_goes_on_exactly():
    whole, resumed = numbered(23, 5), numbered(23, 5)
    rows = [whole.next()[1] for _ in range(40)]
    resumed.step = 17
    for expected in rows[17:]:
        np.testing.assert_array_equal(resumed.next()[1], expected)


def test_orders_differ_between_passes_nodes_and_seeds():
    count = 30
    rows = [
        labels(numbered(count, count), range(1)),
        labels(numbered(count, count), range(1, 2)),
        labels(numbered(count, count, node_index=1), range(1)),
        labels(numbered(count, count, seed=2), range(1)),
    ]
    assert all((one != other).any() for one, other in pairwise(rows))


def test_steps_are_rounded_up_and_at_least_one():
    batches = numbered(15000, 64)
    assert batches.steps_for(3) == 704
    assert batches.steps_for(0.001) == 1
    assert numbered(30, 1).steps_for(0.1) == 3


def test_uint8_images_come_scaled():
    x = np.array([[[[0]], [[51]]], [[[255]], [[102]]]], np.uint8)
    values, y = Batches(x, np.array([0, 1], np.int32), np.arange(2), 2, seed=0, node_index=0).next()
    assert values.dtype == np.float32
    expected = {0: [0, 0.2], 1: [1, 0.4]}
    for image, label in zip(values, y, strict=True):
        np.testing.assert_allclose(image.ravel(), expected[int(label)], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_flip_mirrors_half_of_the_images_and_leaves_the_data_alone(dtype):
    count = 400
    x = np.zeros((count, 2, 3, 1), dtype)
    x[:, :, 0] = 255
    stored = x.copy()
    arguments = (x, np.arange(count, dtype=np.int32), np.arange(count), 100)
    batches = Batches(*arguments, seed=0, node_index=0, augment="flip")
    again = Batches(*arguments, seed=0, node_index=0, augment="flip")
    plain = Batches(*arguments, seed=0, node_index=0)
    flipped = {}
    for step in range(8):
        images, rows = batches.next()
        np.testing.assert_array_equal(images, again.batch(step)[0])
        np.testing.assert_array_equal(rows, plain.batch(step)[1])
        high = images.max()
        for image, row in zip(images[..., 0], rows, strict=True):
            assert (image[:, 1] == 0).all()
            assert (image[:, 0] + image[:, 2] == high).all()
            flipped.setdefault(int(row), []).append(bool(image[0, 2]))
    np.testing.assert_array_equal(x, stored)
    both_passes = np.array(list(flipped.values()))
    assert both_passes.shape == (count, 2)
    assert 0.4 < both_passes.mean() < 0.6
    assert 0.4 < (both_passes[:, 0] != both_passes[:, 1]).mean() < 0.6


def test_unusable_arguments_are_refused():
    x, y = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
    with pytest.raises(DataUnavailable, match="node 2's part of the data is empty"):
        Batches(x, y, np.arange(0), 2, seed=0, node_index=2)
    with pytest.raises(DataUnavailable, match=r"flip needs images.*\(3,\)"):
        Batches(x, y, np.arange(4), 2, seed=0, node_index=0, augment="flip")
    with pytest.raises(ValueError, match="none, flip, not 'crop'"):
        Batches(x, y, np.arange(4), 2, seed=0, node_index=0, augment="crop")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Batches(x, y, np.arange(4), 0, seed=0, node_index=0)


def test_batch_of_mnist_size_takes_little_of_a_step():
    x = np.zeros((15000, 28, 28, 1), np.uint8)
    batches = Batches(x, np.zeros(15000, np.int32), np.arange(15000), 64, seed=0, node_index=0)
    taken = []
    for _ in range(300):
        start = time.perf_counter()
        batches.next()
        taken.append(time.perf_counter() - start)
    # The fastest of many, for the machine may be busy; steps of this size take 3 to 7 ms.
    assert min(taken) < 150e-6
