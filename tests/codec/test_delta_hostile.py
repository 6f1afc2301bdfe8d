"""Payloads of strangers: refused with a code or taken in, never anything else, and the next honest one works."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.codec.delta import DeltaSettings, ReceivedCopy, max_nbytes
from p2pdl.errors import RejectedWeights
from tests.codec.test_delta import SMALL, Link, weights

NAMES = ["mean-threshold", "mean-threshold:int8", "top-k:0.02", "top-k:0.02:int8"]
EVERY_NAME = pytest.mark.parametrize("name", NAMES)
CODES = {"length", "payload", "not-finite", "digest"}
STATISTICS = 17


def pulled(name: str) -> Link:
    link = Link(name, SMALL)
    link.pull(weights(SMALL, 0), 0)
    return link


def throw(link: Link, payload: bytes, digest: int) -> str:
    """Hand in a payload; the code of its refusal, empty if it was taken in."""
    before = link.received.digest(0)
    try:
        update = link.received.decode(0, payload, digest)
    except RejectedWeights as refusal:
        assert refusal.code in CODES
        assert link.received.digest(0) in (0, before)
        return refusal.code
    finally:
        assert np.isfinite(link.received.vector).all()
    assert link.received.digest(0) == digest
    assert update.values.size == (SMALL.size if update.indices is None else update.indices.size)
    return ""


@EVERY_NAME
@settings(deadline=None, max_examples=50)
@given(payload=st.binary(max_size=600), data=st.data())
def test_decode_any_bytes_is_refused_and_the_chain_goes_on(name: str, payload: bytes, data: st.DataObject) -> None:
    link = pulled(name)
    if data.draw(st.booleans()):
        values = NAMES.index(name) % 2
        kind, count = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 60))
        payload = struct.pack("<BBBBI", data.draw(st.integers(0, 1)), kind, values, 0, count) + payload
    assert throw(link, payload, data.draw(st.integers(0, 2**64 - 1))) in CODES
    link.pull(weights(SMALL, 1), 1)


@EVERY_NAME
@pytest.mark.parametrize("whole", [False, True])
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_decode_damaged_payload_is_refused_and_the_chain_goes_on(name: str, whole: bool, data: st.DataObject) -> None:
    link = pulled(name)
    if whole:
        link.restart()
    vector = weights(SMALL, 1)
    before = link.received.digest(0)
    payload, digest = link.encode(0, vector, 1)
    damaged = bytearray(payload.tobytes())
    match data.draw(st.sampled_from(["cut", "flip", "longer"])):
        case "cut":
            del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
        case "flip":
            place = data.draw(st.integers(0, min(len(damaged), 400) - 1))
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        case "longer":
            damaged += data.draw(st.binary(min_size=1, max_size=9))
    code = throw(link, bytes(damaged), digest)
    if code in ("length", "payload", "not-finite"):
        assert link.received.digest(0) == before
        link.received.decode(0, payload, digest)
    link.pull(vector, 2)


@EVERY_NAME
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["statistic", "value"])
def test_decode_not_finite_is_refused_and_changes_nothing(name: str, value: float, place: str) -> None:
    link = pulled(name)
    payload, digest = link.encode(0, weights(SMALL, 1), 1)
    broken = payload.copy()
    start = 8 if place == "statistic" else 8 + 4 * STATISTICS
    broken[start : start + 4] = np.array([value], "<f4").view(np.uint8)
    before = link.received.vector.copy()
    with pytest.raises(RejectedWeights) as caught:
        link.received.decode(0, broken, digest)
    assert caught.value.code == "not-finite"
    np.testing.assert_array_equal(link.received.vector, before)
    link.received.decode(0, payload, digest)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ((2, 0, 0, 0, 0), "payload"),
        ((0, 3, 0, 0, 0), "payload"),
        ((0, 2, 1, 0, 0), "payload"),
        ((0, 2, 0, 1, 0), "payload"),
        ((1, 2, 0, 0, 0), "payload"),
        ((0, 2, 0, 0, SMALL.size), "payload"),
        ((0, 2, 0, 0, 2**32 - 1), "payload"),
        ((0, 0, 0, 0, 0), "payload"),
        ((0, 2, 0, 0, 1), "length"),
        ((0, 1, 0, 0, 0), "length"),
    ],
)
def test_decode_malformed_header_is_refused_with_code(header: tuple[int, ...], code: str) -> None:
    link = pulled("mean-threshold")
    payload = struct.pack("<BBBBI", *header) + bytes(4 * STATISTICS)
    with pytest.raises(RejectedWeights) as caught:
        link.received.decode(0, payload, link.received.digest(0))
    assert caught.value.code == code


@pytest.mark.parametrize("length", [0, 7, 8 + 4 * STATISTICS - 1, max_nbytes(DeltaSettings.parse(NAMES[0]), 4096)])
def test_decode_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(RejectedWeights) as caught:
        pulled("mean-threshold").received.decode(0, bytes(length), 1)
    assert caught.value.code == "length"


def test_decode_statistic_among_sparse_entries_is_refused() -> None:
    copy = ReceivedCopy([slice(4, 6)], 16, DeltaSettings.parse("mean-threshold"))
    whole = struct.pack("<BBBBI", 1, 0, 0, 0, 14) + bytes(4 * 16)
    with pytest.raises(RejectedWeights):
        copy.decode(0, whole, 1)
    for place in (4, 5):
        payload = struct.pack("<BBBBI", 0, 2, 0, 0, 1) + bytes(4 * 2) + bytes(4) + bytes([place])
        with pytest.raises(RejectedWeights) as caught:
            copy.decode(0, payload, 1)
        assert caught.value.code == "payload"


def test_decode_greatest_scales_stay_finite() -> None:
    greatest = np.array([np.finfo(np.float32).max], "<f4").tobytes()
    copy = ReceivedCopy([], 16, DeltaSettings.parse("mean-threshold:int8"))
    payload = struct.pack("<BBBBI", 1, 0, 1, 0, 16) + greatest + bytes([127, 128] * 8)
    with pytest.raises(RejectedWeights) as caught:
        copy.decode(0, payload, 1)
    assert caught.value.code == "digest"
    assert np.isfinite(copy.vector).all()
