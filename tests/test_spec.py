"""The flat vector: where variables stand, and the digests that identify model and weights."""

from __future__ import annotations

import struct
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.spec import (
    SHARD_ELEMENTS,
    WeightSpec,
    combine_digests,
    shard_digest,
    shard_digests,
    vector_digest,
)
from tests.stores import random_vector

NAMES = st.text("abcdefghij/_0123456789", min_size=1, max_size=20)
SHAPES = st.lists(st.integers(0, 40), max_size=3).map(tuple)
LAYOUTS = st.lists(st.tuples(NAMES, SHAPES, st.sampled_from(["float32", "float16"]), st.booleans()), max_size=12)

MODEL = WeightSpec.layout(
    [
        ("dense/kernel", (3, 5), "float32", True),
        ("dense/bias", (5,), "float32", True),
        ("norm/moving_variance", (17,), "float32", False),
        ("scale", (), "float16", True),
    ]
)


def test_layout_known_model_has_these_rows() -> None:
    assert list(MODEL.rows()) == [
        "dense/kernel\t3x5\tfloat32\t0\ttrainable",
        "dense/bias\t5\tfloat32\t16\ttrainable",
        "norm/moving_variance\t17\tfloat32\t32\tstate",
        "scale\tscalar\tfloat16\t64\ttrainable",
    ]
    assert (MODEL.size, MODEL.nbytes, MODEL.parameters) == (80, 320, 38)
    assert MODEL.state_spans == (slice(32, 49),)


def test_digest_is_xxh3_128_of_the_rows_joined_by_newlines() -> None:
    rows = (
        "dense/kernel\t3x5\tfloat32\t0\ttrainable\ndense/bias\t5\tfloat32\t16\ttrainable\n"
        "norm/moving_variance\t17\tfloat32\t32\tstate\nscale\tscalar\tfloat16\t64\ttrainable"
    )
    assert MODEL.digest == xxhash.xxh3_128(rows.encode()).hexdigest()
    assert len(MODEL.digest) == 32


@given(layout=LAYOUTS)
def test_layout_any_model_is_aligned_ordered_and_tight(layout: list[tuple[str, tuple[int, ...], str, bool]]) -> None:
    spec = WeightSpec.layout(layout)
    assert [(v.name, v.shape, v.dtype, v.trainable) for v in spec.variables] == layout
    end = 0
    for variable in spec.variables:
        assert variable.offset % 16 == 0
        assert 0 <= variable.offset - end < 16
        assert variable.size == prod(variable.shape)
        assert variable.span == slice(variable.offset, variable.offset + variable.size)
        end = variable.span.stop
    assert spec.size % 16 == 0 and 0 <= spec.size - end < 16
    assert spec.parameters == sum(prod(shape) for _, shape, _, _ in layout)
    assert [v.span for v in spec.variables if not v.trainable] == list(spec.state_spans)


def test_model_without_variables_has_size_zero() -> None:
    assert WeightSpec.layout([]).size == 0


@pytest.mark.parametrize(
    "change",
    [
        {"name": "dense/other"},
        {"shape": (5, 3)},
        {"dtype": "float16"},
        {"offset": 32},
        {"trainable": False},
    ],
)
def test_digest_differs_after_any_change_of_a_variable(change: dict[str, object]) -> None:
    changed = WeightSpec((replace(MODEL.variables[0], **change), *MODEL.variables[1:]))  # type: ignore[arg-type]
    assert changed.digest != MODEL.digest


def test_digest_differs_in_another_order_of_variables() -> None:
    assert WeightSpec(MODEL.variables[::-1]).digest != MODEL.digest


def test_first_difference_names_the_variable_on_both_sides() -> None:
    rows = list(MODEL.rows())
    assert MODEL.first_difference(rows) == ""
    other = [rows[0], rows[1].replace("\t5\t", "\t7\t"), *rows[2:]]
    assert MODEL.first_difference(other) == "variable 1 is dense/bias float32[5] here and dense/bias float32[7] there"
    assert MODEL.first_difference(rows[:3]) == "variable 3, scale float16[scalar], exists only here"
    assert MODEL.first_difference([*rows, "more\t2\tfloat32\t80\ttrainable"]) == (
        "variable 4, more float32[2], exists only there"
    )
    assert MODEL.first_difference(["junk" * 100, *rows[1:]]).endswith(f"and {'junk' * 20!r} there")


@pytest.mark.parametrize("size", [1, SHARD_ELEMENTS, SHARD_ELEMENTS + 1, 2 * SHARD_ELEMENTS + 77])
def test_digests_equal_xxh3_over_little_endian_bytes(size: int) -> None:
    vector = random_vector(size)
    data = vector.astype("<f4").tobytes()
    parts = [xxhash.xxh3_64_intdigest(data[start : start + (1 << 20)]) for start in range(0, len(data), 1 << 20)]
    assert list(shard_digests(vector)) == parts
    assert shard_digest(vector[:SHARD_ELEMENTS]) == parts[0]
    whole = xxhash.xxh3_64_intdigest(b"".join(struct.pack("<Q", part) for part in parts))
    assert combine_digests(parts) == vector_digest(vector) == whole


@given(place=st.integers(0, 2 * SHARD_ELEMENTS + 76), bit=st.integers(0, 31))
def test_vector_digest_differs_after_any_flipped_bit(place: int, bit: int) -> None:
    flipped = LONG.copy()
    flipped.view(np.uint32)[place] ^= np.uint32(1 << bit)
    assert vector_digest(flipped) != vector_digest(LONG)


LONG = random_vector(2 * SHARD_ELEMENTS + 77)
