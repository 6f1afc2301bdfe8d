"""What every stateless codec must do, whatever form it gives the values."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2pdl.codec import CODECS, Codec, Payload, create, is_stateless
from p2pdl.errors import RejectedWeights
from p2pdl.types import Float32Vector

EVERY_CODEC = pytest.mark.parametrize("name", CODECS)
SIZES = st.one_of(st.integers(1, 20), st.sampled_from([255, 256, 257, 600]))
SEEDS = st.integers(0, 2**64)
LARGEST = float(np.finfo(np.float32).max)
EXTREMES = st.sampled_from([0.0, -0.0, 2.0**-149, -(2.0**-126), 1e-30, 65504.0, 65520.0, 3.39e38, LARGEST, -LARGEST])
VALUES = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-1.0, 1.0, width=32),
    EXTREMES,
)
VECTORS = hnp.arrays(np.float32, SIZES, elements=VALUES)

NOT_FINITE = {
    "float32": [struct.pack("<f", value) for value in (np.nan, np.inf, -np.inf)],
    "bfloat16": [struct.pack("<H", word) for word in (0x7F80, 0xFF80, 0x7F81, 0xFFC0)],
    "float16": [struct.pack("<H", word) for word in (0x7C00, 0xFC00, 0x7C01, 0xFE00)],
    "int8": [struct.pack("<f", scale) for scale in (np.nan, np.inf, -np.inf, LARGEST, -LARGEST, 2.68e36)],
}
"""First words of payloads that are well formed but not finite; zeros follow."""


def weights(size: int, seed: int = 0) -> Float32Vector:
    return (0.05 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def decoded(codec: Codec, payload: Payload, size: int) -> Float32Vector:
    """What the codec makes of a payload; numpy must not complain on the way."""
    out = np.empty(size, np.float32)
    with np.errstate(all="raise"):
        values = codec.decode(payload, out)
    assert values is out or not values.flags.writeable
    assert values.shape == (size,)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    return values


def assert_refused_or_finite(codec: Codec, payload: Payload, size: int) -> None:
    try:
        decoded(codec, payload, size)
    except RejectedWeights as refusal:
        assert refusal.code in {"length", "not-finite", "payload"}


def assert_round_trip(codec: Codec, values: Float32Vector, seed: int = 0) -> None:
    """Everything that the contract says about an encoded piece and its way back."""
    original = values.copy()
    values.flags.writeable = False
    with np.errstate(all="raise"):
        payload = codec.encode(values, seed)
        bounds = codec.error_bound(values)
    assert payload.dtype == np.uint8
    assert payload.ndim == 1
    assert payload.flags.c_contiguous
    assert payload.nbytes <= codec.max_nbytes(values.size)
    assert bounds.shape == values.shape
    errors = np.abs(decoded(codec, payload, values.size).astype(np.float64) - values.astype(np.float64))
    assert (errors <= bounds).all()
    np.testing.assert_array_equal(values, original)


@EVERY_CODEC
@given(values=VECTORS, seed=SEEDS)
def test_round_trip_any_values_stay_within_the_bounds(name: str, values: Float32Vector, seed: int) -> None:
    assert_round_trip(create(name), values, seed)


@EVERY_CODEC
@pytest.mark.parametrize("exponent", [-149, -140, -126, -60, 0, 60, 126])
def test_round_trip_one_block_of_every_magnitude_stays_within_the_bounds(name: str, exponent: int) -> None:
    rng = np.random.default_rng(exponent + 149)
    mixed = np.ldexp(rng.uniform(-1, 1, 700), rng.integers(-149, exponent + 1, 700)).astype(np.float32)
    alike = np.ldexp(rng.uniform(-1, 1, 700), exponent).astype(np.float32)
    for values in (mixed, alike):
        assert_round_trip(create(name), values)


@EVERY_CODEC
@pytest.mark.parametrize("size", [1, 255, 256, 257, 262144])
def test_round_trip_pieces_of_odd_sizes_stay_within_the_bounds(name: str, size: int) -> None:
    assert_round_trip(create(name), weights(size))


@EVERY_CODEC
@pytest.mark.parametrize("size", [1, 256, 1000])
def test_round_trip_zeros_stay_zeros(name: str, size: int) -> None:
    codec = create(name)
    payload = codec.encode(np.zeros(size, np.float32), 7)
    assert not decoded(codec, payload, size).any()


@EVERY_CODEC
@given(values=VECTORS, seed=SEEDS)
def test_encode_same_values_and_seed_give_same_bytes(name: str, values: Float32Vector, seed: int) -> None:
    first = create(name).encode(values, seed)
    codec = create(name)
    codec.encode(weights(300), seed + 1)
    np.testing.assert_array_equal(codec.encode(values.copy(), seed), first)


@EVERY_CODEC
@given(values=VECTORS, place=st.integers(0, 599), bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_encode_value_that_is_not_finite_never_reaches_a_peer(
    name: str, values: Float32Vector, place: int, bad: float
) -> None:
    codec = create(name)
    values[place % values.size] = bad
    try:
        payload = codec.encode(values, 0)
    except ValueError as error:
        assert "not finite" in str(error)
    else:
        assert name in ("float32", "float32+deflate")
        with pytest.raises(RejectedWeights, match="not finite") as refusal:
            decoded(codec, payload, values.size)
        assert refusal.value.code == "not-finite"


@EVERY_CODEC
def test_decode_values_that_are_not_finite_are_refused(name: str) -> None:
    inner, _, deflated = name.partition("+")
    for word in NOT_FINITE[inner]:
        plain = word.ljust(create(inner).max_nbytes(64), b"\0")
        planes = np.frombuffer(plain, np.uint8).reshape(-1, create(inner).word_nbytes).T.tobytes()
        for payload in [b"\0" + plain, b"\1" + zlib.compress(planes)] if deflated else [plain]:
            with pytest.raises(RejectedWeights, match="not finite") as refusal:
                decoded(create(name), payload, 64)
            assert refusal.value.code == "not-finite"
            assert refusal.value.remedy


@EVERY_CODEC
@given(payload=st.binary(max_size=80), size=st.integers(1, 40))
def test_decode_any_bytes_are_refused_or_finite(name: str, payload: bytes, size: int) -> None:
    assert_refused_or_finite(create(name), payload, size)


@EVERY_CODEC
@given(data=st.data(), size=SIZES)
def test_decode_any_bytes_of_the_right_length_are_refused_or_finite(name: str, data: st.DataObject, size: int) -> None:
    codec = create(name)
    content = data.draw(hnp.arrays(np.uint8, codec.max_nbytes(size)))
    assert_refused_or_finite(codec, content, size)


@EVERY_CODEC
@given(values=VECTORS, flips=st.lists(st.integers(0, 2**31), min_size=1, max_size=4))
def test_decode_flipped_bits_are_refused_or_finite(name: str, values: Float32Vector, flips: list[int]) -> None:
    codec = create(name)
    payload = codec.encode(values, 0).copy()
    for flip in flips:
        payload[flip // 8 % payload.size] ^= 1 << flip % 8
    assert_refused_or_finite(codec, payload, values.size)


@EVERY_CODEC
@given(values=VECTORS, cut=st.integers(1, 5000), more=st.binary(min_size=1, max_size=9))
def test_decode_truncated_and_extended_payloads_are_refused(
    name: str, values: Float32Vector, cut: int, more: bytes
) -> None:
    codec = create(name)
    payload = codec.encode(values, 0).tobytes()
    for other in (payload[: -min(cut, len(payload))], payload + more):
        with pytest.raises(RejectedWeights) as refusal:
            decoded(codec, other, values.size)
        assert refusal.value.code in {"length", "payload"}


@EVERY_CODEC
def test_decode_another_size_than_encoded_is_refused(name: str) -> None:
    codec = create(name)
    for values in (weights(600), np.zeros(600, np.float32)):
        payload = codec.encode(values, 0)
        for size in (1, 599, 601, 1200):
            with pytest.raises(RejectedWeights) as refusal:
                decoded(codec, payload, size)
            assert refusal.value.code in {"length", "payload"}


@EVERY_CODEC
@pytest.mark.parametrize("size", [5, 256, 700])
def test_decode_every_kind_of_buffer_gives_the_same_values(name: str, size: int) -> None:
    codec = create(name)
    payload = codec.encode(weights(size), 3)
    content = payload.tobytes()
    expected = decoded(codec, payload, size).copy()
    for buffer in (content, memoryview(content), memoryview(bytearray(content)), memoryview(b"." + content)[1:]):
        np.testing.assert_array_equal(decoded(codec, buffer, size), expected)


def test_registry_names_are_those_of_the_codecs() -> None:
    assert [create(name).name for name in CODECS] == list(CODECS)
    assert all(is_stateless(name) for name in CODECS)
    assert not is_stateless("float64")


def test_create_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'float64'.*float32, bfloat16, float16, int8, float32.deflate"):
        create("float64")
