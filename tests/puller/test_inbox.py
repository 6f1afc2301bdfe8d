"""What arrives in the inbox, against the same sums over whole vectors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.puller.inbox import Inbox, aligned_empty
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.types import Float32Vector
from tests.stores import random_vector

SIZES = st.lists(st.tuples(st.integers(0, 70), st.booleans()), min_size=1, max_size=9)


def spec_of(sizes: list[tuple[int, bool]]) -> WeightSpec:
    return WeightSpec.layout([(f"v{place}", (size,), "float32", kept) for place, (size, kept) in enumerate(sizes)])


def oracle(spec: WeightSpec, vector: Float32Vector, base: Float32Vector) -> Float32Vector:
    """`y - x0` but for statistics, which are `y`."""
    difference = vector - base
    for variable in spec.variables:
        if not variable.trainable:
            difference[variable.span] = vector[variable.span]
    return difference


@given(sizes=SIZES, cuts=st.lists(st.tuples(st.integers(0, 8), st.integers(-2, 2)), max_size=8), data=st.data())
def test_accept_any_parts_in_any_order_equals_whole_vector_oracle(
    sizes: list[tuple[int, bool]], cuts: list[tuple[int, int]], data: st.DataObject
) -> None:
    spec = spec_of(sizes)
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    ends = [variable.span.stop for variable in spec.variables]
    near = {ends[number % len(ends)] + away for number, away in cuts}
    places = sorted({0, spec.size, *(place for place in near if 0 < place < spec.size)})
    parts = data.draw(st.permutations(list(pairwise(places))))
    inbox = Inbox(spec)
    for known, expected in ((None, vector), (base, oracle(spec, vector, base)), (None, vector)):
        inbox.expect(known)
        for start, stop in parts:
            inbox.accept(start, vector[start:stop])
        np.testing.assert_array_equal(inbox.vector, expected)
    inbox.subtract(base)
    np.testing.assert_array_equal(inbox.vector, oracle(spec, vector, base))


def test_accept_statistics_across_the_border_of_shards() -> None:
    spec = spec_of([(SHARD_ELEMENTS - 40, True), (80, False), (SHARD_ELEMENTS, True), (3, False)])
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    assert spec.state_spans[0].start < SHARD_ELEMENTS < spec.state_spans[0].stop
    inbox = Inbox(spec)
    inbox.expect(base)
    for start in range(0, spec.size, SHARD_ELEMENTS):
        inbox.accept(start, vector[start : start + SHARD_ELEMENTS])
    np.testing.assert_array_equal(inbox.vector, oracle(spec, vector, base))


def test_accept_and_subtract_leave_shard_and_base_alone() -> None:
    spec = spec_of([(20, True), (20, False)])
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    vector.flags.writeable = base.flags.writeable = False
    inbox = Inbox(spec)
    inbox.expect(base)
    inbox.accept(0, vector)
    inbox.subtract(base)


@pytest.mark.parametrize("size", [1, 16, 17, 100_003])
def test_vector_is_aligned_to_64_bytes(size: int) -> None:
    for _ in range(5):
        vector = aligned_empty(size)
        assert (vector.size, vector.dtype, vector.ctypes.data % 64) == (size, np.float32, 0)
        assert vector.flags.writeable and vector.flags.c_contiguous
