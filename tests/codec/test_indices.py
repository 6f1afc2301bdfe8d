"""The coding of indices, there and back, and what strangers make of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.codec.indices import BITMAP, GAPS, decode_indices, encode_indices
from p2pdl.errors import RejectedWeights

SHARD = 1 << 18


@st.composite
def subsets(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    size = draw(st.integers(1, 3000))
    chance = draw(st.sampled_from([0.0, 0.002, 0.01, 0.1, 0.5, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.flatnonzero(rng.random(size) < chance), size


@given(subset=subsets())
def test_decode_of_encode_any_subset_is_the_subset_in_the_shorter_form(subset: tuple[np.ndarray, int]) -> None:
    indices, size = subset
    kind, code = encode_indices(indices, size)
    np.testing.assert_array_equal(decode_indices(kind, code, indices.size, size), indices)
    gaps = np.diff(indices, prepend=-1) - 1
    lengths = {BITMAP: -(-size // 8), GAPS: indices.size + int((gaps // 255).sum())}
    assert code.size == lengths[kind] == min(lengths.values())


@pytest.mark.parametrize(
    ("indices", "code"),
    [([0], [0]), ([254], [254]), ([255], [255, 0]), ([256, 257], [255, 1, 0]), ([510, 766], [255, 255, 0, 255, 0])],
)
def test_encode_gaps_known_bytes(indices: list[int], code: list[int]) -> None:
    kind, encoded = encode_indices(np.array(indices), 4000)
    assert kind == GAPS
    assert encoded.tolist() == code


def test_encode_bitmap_known_bytes() -> None:
    kind, code = encode_indices(np.array([0, 1, 9]), 10)
    assert kind == BITMAP
    assert code.tolist() == [0b11, 0b10]


def test_encode_one_percent_of_a_shard_takes_little_more_than_a_byte_each() -> None:
    indices = np.flatnonzero(np.random.default_rng(0).random(SHARD) < 0.01)
    kind, code = encode_indices(indices, SHARD)
    assert kind == GAPS
    assert code.size < 1.1 * indices.size


@given(code=st.binary(max_size=60), count=st.integers(0, 60), size=st.integers(1, 500), kind=st.integers(0, 3))
def test_decode_any_bytes_is_ascending_inside_the_shard_or_refused(
    code: bytes, count: int, size: int, kind: int
) -> None:
    try:
        indices = decode_indices(kind, np.frombuffer(code, np.uint8), count, size)
    except RejectedWeights as refusal:
        assert refusal.code in {"length", "payload"}
        return
    assert indices.size == count
    assert (np.diff(indices, prepend=-1) > 0).all()
    assert (indices < size).all()


@pytest.mark.parametrize(
    ("kind", "code", "count", "problem"),
    [
        (GAPS, [], 1, "length"),
        (GAPS, [3, 4], 1, "payload"),
        (GAPS, [3, 255], 1, "payload"),
        (GAPS, [255, 45], 1, "payload"),
        (GAPS, [255, 255, 0], 1, "length"),
        (GAPS, [254, 254], 2, "payload"),
        (BITMAP, [0] * 37, 0, "length"),
        (BITMAP, [0] * 39, 0, "length"),
        (BITMAP, [1] + [0] * 37, 2, "payload"),
        (BITMAP, [0] * 37 + [16], 1, "payload"),
        (0, [], 0, "payload"),
        (3, [], 0, "payload"),
    ],
)
def test_decode_malformed_code_of_300_entries_is_refused(kind: int, code: list[int], count: int, problem: str) -> None:
    with pytest.raises(RejectedWeights) as caught:
        decode_indices(kind, np.array(code, np.uint8), count, 300)
    assert caught.value.code == problem
