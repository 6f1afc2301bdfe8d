"""The header frame: one msgpack map, decoded strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

import msgpack

from p2pdl.errors import IncompatiblePeer, ProtocolError
from p2pdl.protocol.fields import FieldKind, Text, Whole
from p2pdl.protocol.messages import MESSAGE_TYPES, PROTOCOL_VERSION, Envelope, Message

HEADER_LIMIT = 64 << 10
"""Bytes of a header frame, at most."""

_TYPE_NAMES: dict[type, str] = {message_type: name for name, message_type in MESSAGE_TYPES.items()}
_ENVELOPE_KINDS: dict[str, FieldKind] = {
    "protocol": Whole(0, 2**31 - 1),
    "type": Text(64),
    "id": Whole(0, 2**64 - 1),
    "cluster": Text(64),
    "node": Text(64),
}
_PROTOCOL_KIND = {"protocol": _ENVELOPE_KINDS["protocol"]}


def encode(envelope: Envelope) -> bytes:
    """Turn an envelope into a header frame.

    Raises:
        ProtocolError: No peer would accept the header: a field is out of its limits, or the whole is too long.
    """
    message = envelope.message
    message_type: type = type(message)
    kinds = _field_kinds(message_type)
    header: dict[str, Any] = {
        "protocol": PROTOCOL_VERSION,
        "type": _TYPE_NAMES[message_type],
        "id": envelope.id,
        "cluster": envelope.cluster,
        "node": envelope.node,
        **{name: getattr(message, name) for name in kinds},
    }
    _checked(header, _ENVELOPE_KINDS)
    _checked(header, kinds)
    frame: bytes = msgpack.packb(header)
    if len(frame) > HEADER_LIMIT:
        raise ProtocolError(f"a header of {len(frame)} bytes is over the limit of {HEADER_LIMIT}")
    return frame


def decode(frame: bytes | memoryview) -> Envelope:
    """Read a header frame that somebody sent.

    Args:
        frame: At most `HEADER_LIMIT` bytes.

    Raises:
        IncompatiblePeer: The sender speaks another version of the protocol.
        ProtocolError: Anything else about the frame is not as `docs/protocol.md` says.
    """
    header = _unpack(frame)
    version = _checked(header, _PROTOCOL_KIND)["protocol"]
    if version != PROTOCOL_VERSION:
        raise IncompatiblePeer(
            f"the peer speaks protocol version {version}, this node version {PROTOCOL_VERSION}",
            "run the same version of p2pdl on every node",
            code="protocol-version",
        )
    envelope = _checked(header, _ENVELOPE_KINDS)
    message_type = MESSAGE_TYPES.get(envelope["type"])
    if message_type is None:
        raise ProtocolError(f"unknown message type {envelope['type']!r}")
    kinds = _field_kinds(message_type)
    message: Message = message_type(**_checked(header, kinds))
    if len(header) > len(kinds) + len(_ENVELOPE_KINDS):
        unknown = header.keys() - kinds.keys() - _ENVELOPE_KINDS.keys()
        raise ProtocolError(f"{envelope['type']}: unknown field {min(map(repr, unknown)):.80}")
    return Envelope(envelope["id"], envelope["cluster"], envelope["node"], message)


def _unpack(frame: bytes | memoryview) -> dict[str, Any]:
    if len(frame) > HEADER_LIMIT:
        raise ProtocolError(f"a header of {len(frame)} bytes is over the limit of {HEADER_LIMIT}")
    try:
        header = msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_map_without_duplicates,
            max_ext_len=0,
            max_bin_len=0,
            max_str_len=4096,
            max_array_len=1024,
            max_map_len=64,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"the header is not a valid msgpack map: {error!s:.120}") from None
    if type(header) is not dict:
        raise ProtocolError(f"the header is a {type(header).__name__}, not a map")
    return header


def _map_without_duplicates(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice in one map")
    return mapping


def _checked(header: dict[str, Any], kinds: dict[str, FieldKind]) -> dict[str, Any]:
    """The fields of these kinds, each checked."""
    try:
        return {name: kind.check(header[name]) for name, kind in kinds.items()}
    except (KeyError, ValueError):
        pass
    for name, kind in kinds.items():
        if name not in header:
            raise ProtocolError(f"the field {name!r} is missing")
        try:
            kind.check(header[name])
        except ValueError as error:
            raise ProtocolError(f"the field {name!r} must be {error}, not {header[name]!r:.80}") from None
    raise AssertionError("a check that failed once fails again")


@cache
def _field_kinds(message_type: type) -> dict[str, FieldKind]:
    hints = get_type_hints(message_type, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(message_type)}
