"""Deflated payloads: smaller where that pays, and streams that lie about what is in them."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest

from p2pdl.codec import create
from p2pdl.errors import RejectedWeights
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector

SIZE = 1000
ONES = b"\0" * 2 * SIZE + b"\x80" * SIZE + b"\x3f" * SIZE
"""The byte planes of 1000 ones."""


def refusal_of(payload: bytes, size: int = SIZE, name: str = "float32+deflate") -> RejectedWeights:
    with pytest.raises(RejectedWeights) as refusal:
        create(name).decode(payload, np.empty(size, np.float32))
    return refusal.value


def weights(size: int) -> Float32Vector:
    return (0.05 * np.random.default_rng(0).standard_normal(size)).astype(np.float32)


@pytest.mark.parametrize("inner", ["float32", "bfloat16", "float16", "int8"])
def test_encode_weights_are_deflated_and_come_back_as_from_the_inner_codec(inner: str) -> None:
    values = weights(SHARD_ELEMENTS)
    plain, payload = create(inner).encode(values, 5), create(inner + "+deflate").encode(values, 5)
    assert payload[0] == 1
    assert payload.size <= 1 + 0.95 * plain.size
    out, expected = np.empty_like(values), np.empty_like(values)
    np.testing.assert_array_equal(
        create(inner + "+deflate").decode(payload, out), create(inner).decode(plain, expected)
    )


def test_encode_what_cannot_be_deflated_is_stored() -> None:
    bits = np.random.default_rng(0).integers(0, 0x7F800000, SHARD_ELEMENTS, dtype=np.uint32)
    values = bits.view(np.float32)
    payload = create("float32+deflate").encode(values, 0)
    assert payload.tobytes() == b"\0" + values.tobytes()


def test_decode_any_deflater_is_understood() -> None:
    for level in (1, 6, 9):
        values = create("float32+deflate").decode(b"\1" + zlib.compress(ONES, level), np.empty(SIZE, np.float32))
        np.testing.assert_array_equal(values, np.ones(SIZE))


def test_decode_bomb_is_refused_within_little_memory() -> None:
    deflater = zlib.compressobj(9)
    bomb = b"\1" + b"".join(deflater.compress(bytes(1 << 20)) for _ in range(256)) + deflater.flush()
    assert len(bomb) < 4 * SHARD_ELEMENTS
    out = np.empty(SHARD_ELEMENTS, np.float32)
    tracemalloc.start()
    try:
        with pytest.raises(RejectedWeights) as refusal:
            create("float32+deflate").decode(bomb, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.value.code == "payload"
    assert peak <= 4 * out.nbytes


@pytest.mark.parametrize(
    "payload",
    [
        b"\1",
        b"\1" + zlib.compress(ONES)[:-1],
        b"\1" + zlib.compress(ONES)[:10],
        b"\1" + zlib.compress(ONES) + b"\0",
        b"\1" + zlib.compress(ONES) + zlib.compress(ONES),
        b"\1" + zlib.compress(ONES)[:-1] + b"\0",
        b"\1" + zlib.compress(ONES + b"\0"),
        b"\1" + zlib.compress(ONES[:-1]),
        b"\1" + b"\x78\xbb" + bytes(20),
        b"\2" + zlib.compress(ONES),
        b"\xff",
    ],
    ids=[
        "empty stream",
        "without its last byte",
        "first bytes only",
        "a byte more",
        "two streams",
        "wrong checksum",
        "one byte too many inside",
        "one byte too few inside",
        "preset dictionary",
        "unknown mark",
        "only an unknown mark",
    ],
)
def test_decode_malformed_stream_is_refused(payload: bytes) -> None:
    assert refusal_of(payload).code == "payload"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\0" + ONES[:-1], b"\0" + ONES + b"\0", b"\1" + bytes(4 * SIZE + 1), b"\1" + zlib.compress(ONES[4:])],
    ids=["nothing", "only a mark", "stored too short", "stored too long", "deflated too long", "too few numbers"],
)
def test_decode_wrong_length_is_refused(payload: bytes) -> None:
    assert refusal_of(payload).code == "length"
