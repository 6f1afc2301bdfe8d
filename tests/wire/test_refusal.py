"""Everything that is not a header of this protocol is refused with a reason."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest

from p2pdl.errors import IncompatiblePeer, ProtocolError
from p2pdl.protocol.fields import Figures, Finite, Flag, Table, Text, Whole, WholeList
from p2pdl.protocol.messages import MESSAGE_TYPES, PROTOCOL_VERSION
from p2pdl.wire import HEADER_LIMIT, decode
from tests.wire.headers import FIELDS, header, packed, packed_pairs
from tests.wire.strategies import kinds

NEVER_VALID = [b"", b"bytes", [[]], {1.5: 2}, msgpack.ExtType(5, b""), msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)]
"""No field of any kind may hold one of these, if it can be packed at all."""

EVERY_FIELD = [(message, field, kind) for message, cls in MESSAGE_TYPES.items() for field, kind in kinds(cls).items()]


def wrong_values(kind: object) -> list[Any]:
    """Values just outside of what a field of this kind may hold."""
    match kind:
        case Whole(low, high):
            return [low - 1, *([high + 1] if high < 2**64 - 1 else []), 1.0, True, None, "1", [1]]
        case Finite():
            return [math.nan, math.inf, -math.inf, True, "1.0", [1.0], {}]
        case Flag():
            return [0, 1, None, "true", []]
        case Text(limit):
            return ["x" * (limit + 1), 5, None, True, ["x"], {}]
        case WholeList(limit, _):
            return [[0] * (limit + 1), [-1], [1.0], [True], [None], [[1]], None, 1, "12", {}]
        case Figures(limit):
            too_many = {f"k{number}": 0 for number in range(limit + 1)}
            values = [math.nan, math.inf, [1], {}, "x" * 1025]
            return [too_many, {"x" * 65: 1}, *({"k": value} for value in values), [], None, 1, "x"]
        case Table(limit):
            wide = {f"k{number}": 0 for number in range(17)}
            return [[{}] * (limit + 1), [wide], [{"k": math.nan}], [1], [[]], {}, None, "x"]
    raise AssertionError(kind)


@pytest.mark.parametrize("message, field, kind", EVERY_FIELD, ids=lambda value: value if type(value) is str else "")
def test_field_wrong_value_is_refused_by_name(message: str, field: str, kind: object) -> None:
    for value in [*wrong_values(kind), *NEVER_VALID]:
        with pytest.raises(ProtocolError, match=f"'{field}' must be|not a valid msgpack map"):
            decode(packed(message, **{field: value}))


@pytest.mark.parametrize("field, kind", [("id", Whole(0, 2**64 - 1)), ("cluster", Text(64)), ("node", Text(64))])
@pytest.mark.parametrize("message", FIELDS)
def test_envelope_wrong_value_is_refused_by_name(message: str, field: str, kind: object) -> None:
    for value in wrong_values(kind):
        with pytest.raises(ProtocolError, match=f"'{field}' must be"):
            decode(packed(message, **{field: value}))


@pytest.mark.parametrize(
    "message, field", [(message, field) for message in FIELDS for field in header(message)], ids=lambda value: value
)
def test_field_missing_is_refused_by_name(message: str, field: str) -> None:
    incomplete = header(message)
    del incomplete[field]
    with pytest.raises(ProtocolError, match=f"'{field}' is missing"):
        decode(msgpack.packb(incomplete))


@pytest.mark.parametrize("message", FIELDS)
@pytest.mark.parametrize("name", ["colour", "", "Protocol"])
def test_field_unknown_is_refused_by_name(message: str, name: str) -> None:
    with pytest.raises(ProtocolError, match=f"{message}: unknown field '{name}'"):
        decode(packed(message, **{name: 1}))


def test_field_with_name_of_bytes_is_refused() -> None:
    pairs = [*header("status").items(), (b"", 1), ("zzz", 2)]
    with pytest.raises(ProtocolError, match="status: unknown field 'zzz'|not a valid msgpack map"):
        decode(packed_pairs(pairs))


@pytest.mark.parametrize("message", FIELDS)
def test_key_twice_is_refused(message: str) -> None:
    for key, value in header(message).items():
        with pytest.raises(ProtocolError, match="a key stands twice"):
            decode(packed_pairs([*header(message).items(), (key, value)]))


def test_key_twice_in_an_inner_map_is_refused() -> None:
    pairs = [*header("status-reply").items()]
    packer = msgpack.Packer()
    inner = packed_pairs([("a", 1), ("a", 1)])
    frame = packer.pack_map_header(len(pairs)) + b"".join(
        packer.pack(key) + (inner if key == "figures" else packer.pack(value)) for key, value in pairs
    )
    with pytest.raises(ProtocolError, match="a key stands twice"):
        decode(frame)


@pytest.mark.parametrize("name", ["", "Snapshot", "snapshot ", "pickle", "x" * 64])
def test_type_unknown_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="unknown message type"):
        decode(packed("status", type=name))


@pytest.mark.parametrize("version", [0, 1, 7, 2**31 - 1])
@pytest.mark.parametrize("rest", [{}, {"type": "of-the-future", "colour": [1, {"a": None}]}])
def test_protocol_version_other_is_incompatible_and_both_are_named(version: int, rest: dict[str, Any]) -> None:
    with pytest.raises(IncompatiblePeer, match=f"version {version}, this node version {PROTOCOL_VERSION}") as caught:
        decode(packed("status", protocol=version, **rest))
    assert caught.value.code == "protocol-version"


@pytest.mark.parametrize("version", [-1, 2**31, 1.0, True, None, "1", [1]])
def test_protocol_version_no_version_is_refused(version: object) -> None:
    with pytest.raises(ProtocolError, match="'protocol' must be an integer"):
        decode(packed("status", protocol=version))


def test_header_one_byte_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ProtocolError, match="65537 bytes is over the limit of 65536"):
        decode(bytes(HEADER_LIMIT + 1))


@pytest.mark.parametrize(
    "frame, why",
    [
        (b"", "not a valid"),
        (packed("status") + b"\x00", "not a valid"),
        (packed("status")[:-1], "not a valid"),
        (packed("status") * 2, "not a valid"),
        (b"GET / HTTP/1.1\r\n\r\n", "not a valid"),
        (msgpack.packb([1, 2]), "is a list, not a map"),
        (msgpack.packb("status"), "is a str, not a map"),
        (msgpack.packb(None), "is a NoneType, not a map"),
        (b"\x80", "'protocol' is missing"),
        (b"\xc1", "not a valid"),
        (b"\x81\xa1\xff\x01", "not a valid"),
        (b"\xdf\xff\xff\xff\xff", "not a valid"),
        (b"\xdd\xff\xff\xff\xff", "not a valid"),
        (b"\x91" * HEADER_LIMIT, "not a valid"),
        (b"\x91" * 1000 + b"\xc0", "not a valid|not a map"),
        (b"\x81\xa1a" * 2000 + b"\xc0", "not a valid"),
        (msgpack.packb({1: 2}), "not a valid"),
        (msgpack.packb({"a": msgpack.ExtType(1, b"x")}), "not a valid"),
        (msgpack.packb({"a": msgpack.Timestamp(1, 1)}), "not a valid"),
        (msgpack.packb({"a": b"x"}), "not a valid"),
        (msgpack.packb({"a": "x" * 4097}), "not a valid"),
        (msgpack.packb({"a": [0] * 1025}), "not a valid"),
        (msgpack.packb({str(number): 0 for number in range(65)}), "not a valid"),
    ],
)
def test_frame_malformed_is_refused(frame: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode(frame)


def test_refusal_of_long_values_is_short() -> None:
    for frame in (
        packed("status", **{"x" * 4000: 1}),
        packed("status", node="x" * 4000),
        packed("status", type="x" * 65),
    ):
        with pytest.raises(ProtocolError) as caught:
            decode(frame)
        assert len(caught.value.message) < 250
