"""Every message survives the way to bytes and back."""

from __future__ import annotations

import dataclasses

import msgpack
import pytest
from hypothesis import given

from p2pdl.errors import ProtocolError
from p2pdl.protocol.messages import MESSAGE_TYPES, PROTOCOL_VERSION, Envelope, Refusal, SnapshotRequest, StatusReply
from p2pdl.wire import HEADER_LIMIT, decode, encode
from tests.wire.headers import FIELDS, header, packed
from tests.wire.strategies import ENVELOPES, kinds


@given(envelope=ENVELOPES)
def test_message_any_values_are_the_same_after_decoding(envelope: Envelope) -> None:
    frame = encode(envelope)
    assert decode(frame) == envelope
    assert decode(memoryview(frame)) == envelope
    assert encode(decode(frame)) == frame


def test_samples_cover_every_message_and_field() -> None:
    assert FIELDS.keys() == MESSAGE_TYPES.keys()
    for name, message_type in MESSAGE_TYPES.items():
        assert list(FIELDS[name]) == list(kinds(message_type))


@pytest.mark.parametrize("name", FIELDS)
def test_header_is_one_map_of_envelope_and_fields(name: str) -> None:
    envelope = decode(packed(name))
    assert (envelope.id, envelope.cluster, envelope.node) == (5, "lab", "alpha")
    assert type(envelope.message) is MESSAGE_TYPES[name]
    for field in dataclasses.fields(envelope.message):
        value = getattr(envelope.message, field.name)
        assert (list(value) if isinstance(value, tuple) else value) == FIELDS[name][field.name]
    assert msgpack.unpackb(encode(envelope)) == header(name)
    assert header(name)["protocol"] == PROTOCOL_VERSION


def test_header_field_order_makes_no_difference() -> None:
    shuffled = dict(reversed(header("snapshot-reply").items()))
    assert decode(msgpack.packb(shuffled)) == decode(packed("snapshot-reply"))


def test_whole_number_is_a_number_too() -> None:
    message = decode(packed("snapshot-reply", loss=2, age=0)).message
    assert (message.loss, message.age) == (2.0, 0.0)  # type: ignore[union-attr]
    assert isinstance(message.loss, float)  # type: ignore[union-attr]


def test_encode_longest_legal_header_passes_and_a_longer_one_is_refused() -> None:
    def status(*lengths: int) -> StatusReply:
        rows = tuple({"k": "x" * length} for length in lengths)
        return StatusReply("", "training", 0, 0, 0, None, None, {}, rows)

    room = HEADER_LIMIT - len(encode(Envelope(1, "lab", "alpha", status(*[1000] * 64, 300))))
    longest = status(*[1000] * 64, 300 + room)
    frame = encode(Envelope(1, "lab", "alpha", longest))
    assert len(frame) == HEADER_LIMIT
    assert decode(frame).message == longest
    with pytest.raises(ProtocolError, match="65537 bytes is over the limit of 65536"):
        encode(Envelope(1, "lab", "alpha2", longest))


@pytest.mark.parametrize(
    "message",
    [SnapshotRequest("s" * 65), Refusal("x", "m" * 1025), Refusal("x", float("nan"))],  # type: ignore[arg-type]
)
def test_encode_own_message_no_peer_would_accept_is_refused(message: SnapshotRequest | Refusal) -> None:
    with pytest.raises(ProtocolError, match="must be"):
        encode(Envelope(1, "lab", "alpha", message))


def test_encode_own_figure_not_finite_is_refused() -> None:
    status = StatusReply("", "training", 0, 0, 0, None, None, {"density": float("nan")}, ())
    with pytest.raises(ProtocolError, match="'figures' must be a finite number"):
        encode(Envelope(1, "lab", "alpha", status))
