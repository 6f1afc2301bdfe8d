"""Selections to bytes and back, within the limit of a frame, and what strangers make of it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.errors import RejectedWeights
from p2pdl.sparsifier import Selection, SelectionCoding
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.wire import FRAME_LIMIT
from tests.sparsifier.vectors import LARGE, SMALL, normal, trained

CODINGS = pytest.mark.parametrize("values", ["float32", "int8"])
MIXED = WeightSpec.layout(
    [("a", (SHARD_ELEMENTS - 40,), "float32", True), ("mean", (50,), "float32", False), ("b", (3000,), "float32", True)]
)
"""Statistics on both sides of the end of a shard."""


def decoded(coding: SelectionCoding, payloads: list[tuple[int, np.ndarray]], spec: WeightSpec) -> Selection:
    """All payloads put together again."""
    indices, values = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    for number, payload in payloads:
        places, found = coding.decode(number, payload.tobytes())
        assert places is not None
        indices.append(places + number * SHARD_ELEMENTS)
        values.append(found)
    assert spec.size > indices[-1].max(initial=0)
    return Selection(np.concatenate(indices), np.concatenate(values))


def selection(spec: WeightSpec, chance: float, seed: int) -> Selection:
    chosen = trained(spec) & (np.random.default_rng(seed).random(spec.size) < chance)
    return Selection(np.flatnonzero(chosen), normal(spec, seed)[chosen])


@CODINGS
@settings(max_examples=60)
@given(chance=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0]), seed=st.integers(0, 10_000))
def test_decode_of_encode_small_vector_is_the_selection(values: str, chance: float, seed: int) -> None:
    coding, original = SelectionCoding(SMALL, values), selection(SMALL, chance, seed)
    back = decoded(coding, coding.encode(original), SMALL)
    np.testing.assert_array_equal(back.indices, original.indices)
    bound = 0.0 if values == "float32" else np.abs(original.values).max(initial=0.0) / 127 * 0.501
    np.testing.assert_allclose(back.values, original.values, rtol=0, atol=bound)


@CODINGS
@pytest.mark.parametrize("spec", [LARGE, MIXED], ids=["large", "mixed"])
@pytest.mark.parametrize("chance", [0.0, 0.0001, 0.01, 0.1, 0.3, 0.8, 0.87, 0.9, 0.97, 0.99999, 1.0])
def test_decode_of_encode_shards_is_the_selection_and_fits_a_frame(
    values: str, spec: WeightSpec, chance: float
) -> None:
    coding, original = SelectionCoding(spec, values), selection(spec, chance, 0)
    payloads = coding.encode(original)
    assert all(payload.size <= FRAME_LIMIT for _, payload in payloads)
    assert [number for number, _ in payloads] == np.unique(original.indices // SHARD_ELEMENTS).tolist()
    back = decoded(coding, payloads, spec)
    np.testing.assert_array_equal(back.indices, original.indices)
    if values == "float32":
        np.testing.assert_array_equal(back.values, original.values)


@CODINGS
@pytest.mark.parametrize("spec", [SMALL, LARGE, MIXED], ids=["small", "large", "mixed"])
def test_decode_of_encode_everything_is_the_vector(values: str, spec: WeightSpec) -> None:
    coding, vector = SelectionCoding(spec, values), normal(spec, 0) * trained(spec)
    payloads = coding.encode(Selection(None, vector), seed=3)
    assert all(payload.size <= FRAME_LIMIT for _, payload in payloads)
    parts = [coding.decode(number, payload) for number, payload in payloads]
    assert all(places is None for places, _ in parts)
    bound = 0.0 if values == "float32" else np.abs(vector).max() / 127 * 1.001
    np.testing.assert_allclose(np.concatenate([found for _, found in parts]), vector, rtol=0, atol=bound)


@pytest.mark.parametrize(("chance", "most"), [(0.01, 5.2), (0.1, 5.1), (0.424, 4.31), (0.99, 4.02)])
def test_encode_takes_little_more_than_the_values(chance: float, most: float) -> None:
    original = selection(LARGE, chance, 1)
    nbytes = sum(payload.size for _, payload in SelectionCoding(LARGE).encode(original))
    assert nbytes / original.values.size < most


def test_encode_known_bytes() -> None:
    chosen = Selection(np.array([1, 4]), np.array([1.0, -2.0], np.float32))
    [(number, payload)] = SelectionCoding(SMALL).encode(chosen)
    assert number == 0
    assert payload.tobytes() == struct.pack("<BBHIff", 2, 0, 0, 2, 1.0, -2.0) + bytes([1, 2])


def test_encode_all_but_one_known_bytes() -> None:
    spec = WeightSpec.layout([("a", (32,), "float32", True)])
    places = np.delete(np.arange(32), 5)
    [(_, payload)] = SelectionCoding(spec).encode(Selection(places, np.ones(31, np.float32)))
    assert payload.tobytes() == struct.pack("<BBHI31f", 3, 0, 0, 31, *[1.0] * 31) + bytes([5])


def refused(coding: SelectionCoding, number: int, payload: bytes) -> None:
    with pytest.raises(RejectedWeights) as caught:
        coding.decode(number, payload)
    assert caught.value.code == "payload"


def header(kind: int, count: int, values: int = 0, zero: int = 0) -> bytes:
    return struct.pack("<BBHI", kind, values, zero, count)


ONE = struct.pack("<f", 1.0)
MALFORMED = {
    "nothing": b"",
    "half a header": header(2, 0)[:7],
    "unknown kind": header(4, 0),
    "other values": header(2, 0, values=1),
    "unknown values": header(2, 0, values=2),
    "not zero": header(2, 0, zero=1),
    "more than the shard": header(2, SMALL.size + 1) + ONE * (SMALL.size + 1) + bytes(SMALL.size + 1),
    "greatest count": header(2, 2**32 - 1),
    "no values": header(2, 1),
    "no index": header(2, 1) + ONE,
    "an index too many": header(2, 1) + ONE + bytes([0, 0]),
    "behind the end": header(2, 1) + ONE + bytes([SMALL.size]),
    "bits too short": header(1, 0) + bytes(15),
    "bits too many": header(1, 1) + ONE + bytes([3]) + bytes(15),
    "padding": header(2, 1) + ONE + bytes([40]),
    "a statistic": header(2, 1) + ONE + bytes([50]),
    "left out too few": header(3, SMALL.size) + ONE * SMALL.size,
    "not a number": header(2, 1) + struct.pack("<f", np.nan) + bytes([0]),
    "infinite": header(2, 1) + struct.pack("<f", np.inf) + bytes([0]),
    "part of all": header(0, SMALL.size - 1) + bytes(4 * SMALL.size - 4),
    "all cut short": header(0, SMALL.size) + bytes(4 * SMALL.size - 1),
    "all and more": header(0, SMALL.size) + bytes(4 * SMALL.size + 1),
    "all with padding": header(0, SMALL.size) + ONE * SMALL.size,
    "all infinite": header(0, SMALL.size) + struct.pack("<f", np.inf) + bytes(4 * SMALL.size - 4),
    "too long": header(2, 0) + bytes(5 * FRAME_LIMIT),
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
def test_decode_malformed_payload_is_refused(payload: bytes) -> None:
    refused(SelectionCoding(SMALL), 0, payload)


@pytest.mark.parametrize("number", [-1, 1, 2**40])
def test_decode_unknown_shard_is_refused(number: int) -> None:
    refused(SelectionCoding(SMALL), number, header(2, 0))


@CODINGS
@settings(max_examples=150)
@given(data=st.data())
def test_decode_any_bytes_is_well_formed_or_refused(values: str, data: st.DataObject) -> None:
    coding, kind = SelectionCoding(SMALL, values), data.draw(st.integers(0, 3))
    payload = data.draw(st.binary(max_size=700))
    if data.draw(st.booleans()):
        payload = header(kind, data.draw(st.integers(0, SMALL.size)), int(values == "int8")) + payload
    check(coding, payload)


@CODINGS
@settings(max_examples=150)
@given(data=st.data())
def test_decode_damaged_payload_is_well_formed_or_refused(values: str, data: st.DataObject) -> None:
    coding = SelectionCoding(SMALL, values)
    whole = Selection(None, normal(SMALL, 0) * trained(SMALL))
    chosen = data.draw(st.sampled_from([selection(SMALL, 0.1, 0), selection(SMALL, 0.5, 0), whole]))
    damaged = bytearray(coding.encode(chosen)[0][1].tobytes())
    match data.draw(st.sampled_from(["cut", "flip", "longer"])):
        case "cut":
            del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
            refused(coding, 0, bytes(damaged))
        case "longer":
            damaged += data.draw(st.binary(min_size=1, max_size=9))
            refused(coding, 0, bytes(damaged))
        case "flip":
            damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            check(coding, bytes(damaged))


def check(coding: SelectionCoding, payload: bytes) -> None:
    """Refused with the one code, or entries that the vector has."""
    try:
        places, found = coding.decode(0, payload)
    except RejectedWeights as refusal:
        assert refusal.code == "payload"
        return
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    if places is None:
        assert found.size == SMALL.size
        assert not found[~trained(SMALL)].any()
        return
    assert places.shape == found.shape
    assert (np.diff(places) > 0).all()
    assert trained(SMALL)[places].all()


def test_coding_unknown_values_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'int4'.*float32, int8"):
        SelectionCoding(SMALL, "int4")
