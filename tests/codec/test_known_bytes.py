"""Payloads of small vectors, worked out by hand: what another implementation must send and understand."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from p2pdl.codec import create

FLOAT32_MAX = float(np.finfo(np.float32).max)

BOTH_WAYS = [
    ("float32", [1.0, -2.0, 0.15625], "0000803f 000000c0 0000203e"),
    ("bfloat16", [1.0, -2.0, 0.15625], "803f 00c0 203e"),
    ("float16", [1.0, -2.0, 2.0**-24, 65504.0], "003c 00c0 0100 ff7b"),
    # The scale 127 / 127 = 1 and the levels.
    ("int8", [127.0, -127.0, 0.0, 64.0, -1.0], "0000803f 7f 81 00 40 ff"),
    # The scale 2 ** -10.
    ("int8", [-127 / 1024, 3 / 1024], "0000803a 81 03"),
    # A block of 256 zeros has the smallest normal scale, 2 ** -126; then a block of one element with the scale 2.
    ("int8", [0.0] * 256 + [254.0], "00008000 00000040" + "00" * 256 + "7f"),
    ("float32+deflate", [1.0, -2.0], "00 0000803f 000000c0"),
    ("bfloat16+deflate", [1.0, -2.0], "00 803f 00c0"),
    ("float16+deflate", [1.0, -2.0], "00 003c 00c0"),
    ("int8+deflate", [127.0, -127.0], "00 0000803f 7f 81"),
]

ROUNDED = [
    # Halfway between two bfloat16: the one whose last bit is 0.
    ("bfloat16", [1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20], "803f 823f 813f"),
    ("bfloat16", [FLOAT32_MAX, -FLOAT32_MAX, 2.0**-134, 3 * 2.0**-135], "7f7f 7fff 0000 0100"),
    ("float16", [1 + 2.0**-11, 1 + 3 * 2.0**-11, 70000.0, -FLOAT32_MAX, 1e-9], "003c 023c ff7b fffb 0000"),
]


@pytest.mark.parametrize("name, values, payload", [*BOTH_WAYS, *ROUNDED])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_encode_known_values_gives_known_bytes(name: str, values: list[float], payload: str, seed: int) -> None:
    assert create(name).encode(np.array(values, np.float32), seed).tobytes() == bytes.fromhex(payload)


@pytest.mark.parametrize("name, values, payload", BOTH_WAYS)
def test_decode_known_bytes_gives_known_values(name: str, values: list[float], payload: str) -> None:
    out = np.empty(len(values), np.float32)
    np.testing.assert_array_equal(create(name).decode(bytes.fromhex(payload), out), np.array(values, np.float32))


def test_encode_int8_rounds_up_by_the_words_of_the_generator() -> None:
    # Four elements take one word of SFC64, lowest 16 bits first; a value is rounded up where its part above the
    # level and the odd number of 65536ths together are 1 or more.
    word = int(np.random.SFC64(0).random_raw())
    dithers = [(word >> shift & 0xFFFF | 1) / 65536 for shift in (0, 16, 32, 48)]
    values = [126.5, -0.5, 0.25, 127.0]
    expected = [math.floor(value + dither) for value, dither in zip(values, dithers, strict=True)]
    payload = create("int8").encode(np.array(values, np.float32), 0)
    assert payload[4:].view(np.int8).tolist() == expected


def test_encode_deflated_holds_the_byte_planes() -> None:
    payload = create("float32+deflate").encode(np.ones(64, np.float32), 0).tobytes()
    assert payload[0] == 1
    assert zlib.decompress(payload[1:]) == b"\0" * 128 + b"\x80" * 64 + b"\x3f" * 64
