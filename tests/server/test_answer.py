"""From frames to frames: whatever is sent, one reply comes, and a fault of ours is the peer's `internal`."""

from __future__ import annotations

import json
import logging
import math

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.messages import (
    MESSAGE_TYPES,
    PROTOCOL_VERSION,
    REFUSALS,
    Envelope,
    RangeReply,
    RangeRequest,
    Refusal,
    SnapshotReply,
    SnapshotRequest,
    StatusReply,
    StatusRequest,
)
from p2pdl.protocol.serving import Serving
from p2pdl.server.answer import Answer, Answerer, reply_only
from p2pdl.server.view import StoreView, status_block
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS, Word
from p2pdl.store.reader import StoreReader
from p2pdl.wire import HEADER_LIMIT, decode, encode
from tests.protocol.nodes import PlainNode, node_serving
from tests.stores import dense_spec, new_store, publish, random_vector, writing
from tests.wire.headers import header

NODE = node_serving(random_vector(SHARD_ELEMENTS + 16))
ASK = encode(Envelope(7, "lab", "alpha", StatusRequest()))


def answerer_of(node: PlainNode = NODE) -> Answerer:
    return Answerer("lab", "beta", Serving("lab", node))


def replied(answer: Answer) -> Envelope:
    return decode(answer.frames[0])


def views(*frames: bytes) -> list[memoryview]:
    return [memoryview(frame) for frame in frames]


def test_answer_echoes_the_id_and_counts_its_bytes() -> None:
    answerer = answerer_of()
    for request_id in (0, 1, 2**64 - 1):
        envelope = Envelope(request_id, "lab", "alpha", SnapshotRequest(NODE.spec_digest()))
        answer = answerer(views(encode(envelope)), 1.0)
        reply = replied(answer)
        assert (reply.id, reply.cluster, reply.node) == (request_id, "lab", "beta")
        assert isinstance(reply.message, SnapshotReply)
        assert (answer.nbytes, answer.payload_nbytes, answer.refused) == (len(answer.frames[0]), 0, "")
    request = RangeRequest("first-life", 1, 0, SHARD_ELEMENTS + 16, "float32", (), False)
    answer = answerer(views(encode(Envelope(2, "lab", "alpha", request))), 1.0)
    assert isinstance(replied(answer).message, RangeReply)
    assert [memoryview(frame).nbytes for frame in answer.frames[1:]] == [1 << 20, 64]
    assert answer.payload_nbytes == (1 << 20) + 64 == answer.nbytes - len(answer.frames[0])


@pytest.mark.parametrize("request_id", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_range_in_advance_names_any_id_that_a_snapshot_request_may_have(request_id: int) -> None:
    answerer = answerer_of()
    asked = Envelope(request_id, "lab", "alpha", SnapshotRequest(NODE.spec_digest()))
    assert isinstance(replied(answerer(views(encode(asked)), 1.0)).message, SnapshotReply)
    in_advance = RangeRequest("", request_id, 0, SHARD_ELEMENTS, "float32", (), False)
    answer = answerer(views(encode(Envelope(5, "lab", "alpha", in_advance))), 1.0)
    assert isinstance(replied(answer).message, RangeReply)


@pytest.mark.parametrize(
    "frames, code, text",
    [
        ((), "bad-request", "a request has one frame at least"),
        ((ASK, b""), "bad-request", "StatusRequest is 1 frames, not 2"),
        ((ASK, *(b"",) * 999), "bad-request", "StatusRequest is 1 frames, not 1000"),
        ((msgpack.packb(header("begin")), b""), "bad-request", "BeginRequest is 1 frames, not 2"),
        ((msgpack.packb(header("push")),), "bad-request", "PushRequest is 2 frames, not 1"),
        ((msgpack.packb(header("join")), b"", b""), "bad-request", "JoinRequest is 2 frames, not 3"),
        ((msgpack.packb(header("push")), b""), "not-a-server", REFUSALS["not-a-server"]),
        ((b"",), "bad-request", "not a valid msgpack map"),
        ((b"GET / HTTP/1.1",), "bad-request", "not a valid msgpack map"),
        ((bytes(HEADER_LIMIT + 1),), "bad-request", "over the limit"),
        ((msgpack.packb(header("status", protocol=9)),), "protocol-version", "version 9, this node version 4"),
        ((msgpack.packb(header("status-reply")),), "bad-request", "StatusReply is not a request"),
        ((msgpack.packb(header("status", cluster="x")),), "cluster", "cluster 'lab', not 'x'"),
    ],
)
def test_junk_is_refused_with_code_and_reason(frames: tuple[bytes, ...], code: str, text: str) -> None:
    assert PROTOCOL_VERSION == 4
    answer = answerer_of()(views(*frames), 1.0)
    message = replied(answer).message
    assert isinstance(message, Refusal) and message.code == answer.refused == code
    assert text in message.message


@given(frames=st.lists(st.binary(max_size=60), max_size=4))
def test_any_frames_are_answered(frames: list[bytes]) -> None:
    answer = answerer_of()(views(*frames), 1.0)
    assert isinstance(replied(answer).message, Refusal)


@given(name=st.sampled_from(list(MESSAGE_TYPES)), offset=st.integers(0, 2**63 - 1), length=st.integers(0, 2**63 - 1))
def test_any_message_is_answered(name: str, offset: int, length: int) -> None:
    fields = header(name)
    if name == "range":
        fields |= {"offset": offset, "length": length}
    answer = answerer_of()(views(msgpack.packb(fields)), 1.0)
    assert type(replied(answer).message) in MESSAGE_TYPES.values()
    assert answer.refused == "" or answer.refused in REFUSALS


def test_fault_of_the_node_is_internal_and_the_next_request_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PlainNode):
        def status(self, now: float) -> StatusReply:
            raise RuntimeError("the disk is on fire")

    answerer = answerer_of(Broken())
    with caplog.at_level(logging.ERROR):
        answer = answerer(views(ASK), 1.0)
    assert replied(answer) == Envelope(7, "lab", "beta", Refusal("internal", REFUSALS["internal"]))
    assert "the disk is on fire" in caplog.text
    answer = answerer(views(encode(Envelope(8, "lab", "alpha", SnapshotRequest("x")))), 1.0)
    assert replied(answer) == Envelope(8, "lab", "beta", Refusal("not-ready", REFUSALS["not-ready"]))


@pytest.mark.parametrize(
    "status",
    [
        StatusReply("life", "training", -1, 0, 0, None, None, {}, ()),
        StatusReply("life", "training", 0, 0, 0, math.nan, None, {}, ()),
        StatusReply("life", "training", 0, 0, 0, None, None, {f"f{number}": 0 for number in range(65)}, ()),
        StatusReply("life", "training", 0, 0, 0, None, None, {}, ({"error": "x" * 1000},) * 100),
    ],
)
def test_reply_no_peer_would_accept_is_internal(status: StatusReply, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(PlainNode):
        def status(self, now: float) -> StatusReply:
            return status

    answer = answerer_of(Odd())(views(ASK), 1.0)
    assert (replied(answer).id, answer.refused, answer.payload_nbytes) == (7, "internal", 0)


def test_handler_of_the_network_gives_the_frames_alone() -> None:
    assert reply_only(answerer_of())(views(ASK), 1.0) == answerer_of()(views(ASK), 1.0).frames


def test_view_of_a_store_goes_from_nothing_to_weights() -> None:
    spec = dense_spec(40)
    with new_store() as descriptor:
        reader = StoreReader(descriptor)
        view = StoreView(reader)
        assert (view.incarnation(), view.layout()) == ("", None)
        assert (view.newest_version(), view.load(), view.status(5.0).state) == (None, None, "starting")
        with writing(descriptor, spec) as writer:
            assert (view.incarnation(), view.layout()) == (writer.incarnation, spec)
            publish(writer, random_vector(spec.size))
            assert view.newest_version() == 1
            snapshot = view.load()
            assert snapshot is not None
            np.testing.assert_array_equal(snapshot.vector, random_vector(spec.size))
        reader.close()


def test_status_block_leaves_out_the_peers_that_do_not_fit() -> None:
    peers = [{"name": f"node{number}", "last_error": "x" * 900} for number in range(100)]
    block = status_block(now=1.0, state="training", peers=peers)
    rows = json.loads(block)["peers"]
    assert len(block) <= STATUS.limit
    assert rows == peers[: len(rows)] and 20 < len(rows) < 100 * STATUS.limit // 90_000


def test_view_status_is_what_the_trainer_wrote_and_what_the_server_counted() -> None:
    peers = [{"name": "beta", "state": "live", "pulls": 3, "error": None}]
    with new_store() as descriptor:
        reader, status = StoreReader(descriptor), Block(descriptor, STATUS)
        view = StoreView(reader)
        status.write(
            status_block(
                now=100.0,
                state="training",
                step=5,
                steps=50,
                samples=320,
                loss=0.5,
                figures={"density": 0.4, "ratio": math.nan, "merges": 3},
                peers=[*peers, {"gap": math.inf}],
            )
        )
        reader.take_over()
        reader.count(Word.REQUESTS, 12)
        view.refusals["model"] += 2
        reply = view.status(102.5)
        assert (reply.state, reply.step, reply.steps, reply.samples, reply.loss, reply.age) == (
            *("training", 5, 50, 320, 0.5),
            2.5,
        )
        assert reply.figures == {
            **{"density": 0.4, "ratio": None, "merges": 3},
            **{"bytes_sent": 0, "requests": 12, "refusals": 0, "server_starts": 1, "refused_model": 2},
        }
        assert reply.peers == (*peers, {"gap": None})
        assert decode(encode(Envelope(1, "lab", "alpha", reply))).message == reply
        status.write(status_block(now=100.0, state="failed", loss=math.inf))
        assert view.status(99.0).loss is None
        assert view.status(99.0).age == 0.0
        status.close()
        reader.close()
