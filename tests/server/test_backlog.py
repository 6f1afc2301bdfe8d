"""Encoded replies that nobody reads: counted, bounded, and after a while dropped with those that hoard them."""

from __future__ import annotations

import contextlib
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.codec.ends import decoder
from p2pdl.protocol.messages import Envelope, RangeReply, RangeRequest, Refusal, SnapshotRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import Serving
from p2pdl.puller.inbox import Inbox
from p2pdl.server.answer import Answer, Answerer
from p2pdl.server.backlog import Backlog
from p2pdl.server.starvation import HOARDED_SECONDS
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.store.layout import Word
from p2pdl.wire import decode, encode
from tests.faults.hostile import BarePeer
from tests.processes import wait_until
from tests.protocol.nodes import node_serving
from tests.puller.pulling import WAIT, requester_of
from tests.server import running
from tests.stores import new_store, publish, random_vector, writing

MIB = 1 << 20
VECTOR = random_vector(4 * SHARD_ELEMENTS)


@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=30), st.integers(1, 2000))
def test_backlog_is_full_while_as_many_bytes_are_referred_to(sizes: list[tuple[int, bool]], limit: int) -> None:
    backlog = Backlog(limit)
    held = []
    for size, is_kept in sizes:
        frame = np.zeros(size, np.uint8)
        backlog.add([frame])
        if is_kept:
            held.append(frame)
        del frame
        assert backlog.is_full == (sum(kept.nbytes for kept in held) >= limit)
    held.clear()
    assert not backlog.is_full


def test_backlog_counts_neither_slices_of_the_store_nor_text() -> None:
    backlog = Backlog(1)
    frames = [np.zeros(100, np.float32), b"rows"]
    backlog.add(frames)
    assert not backlog.is_full


def asked(answerer: Answerer, codec: str) -> Answer:
    request = RangeRequest("first-life", 1, 0, VECTOR.size, codec, (), False)
    return answerer([memoryview(encode(Envelope(2, "lab", "beta", request)))], 0.0)


@pytest.mark.parametrize("codec", ["int8", "bfloat16", "float32+deflate"])
def test_answerer_with_a_full_backlog_refuses_what_needs_memory_and_nothing_else(codec: str) -> None:
    node = node_serving(VECTOR)
    answerer = Answerer("lab", "alpha", Serving("lab", node), Backlog(2 * MIB))
    granted = SnapshotRequest(node.spec_digest())
    assert answerer([memoryview(encode(Envelope(1, "lab", "beta", granted)))], 0.0).refused == ""
    unread = []
    while (answer := asked(answerer, codec)).refused == "":
        unread.append(answer)
    assert sum(answer.payload_nbytes for answer in unread) >= 2 * MIB
    assert sum(answer.payload_nbytes for answer in unread[:-1]) < 2 * MIB
    refused = decode(answer.frames[0]).message
    assert refused == Refusal("busy", "replies that nobody reads take the memory of new ones")
    assert isinstance(decode(asked(answerer, "float32").frames[0]).message, RangeReply)
    del answer
    unread.clear()
    assert asked(answerer, codec).refused == ""


def test_hoarded_replies_are_dropped_with_their_connections_and_others_get_theirs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running, "Answerer", partial(Answerer, backlog=Backlog(8 * MIB)))
    spec = running.SPEC
    with new_store() as store, contextlib.ExitStack() as stack:
        writer = stack.enter_context(writing(store, spec))
        served = stack.enter_context(contextlib.closing(running.RunningServer(store)))
        vector, inbox = random_vector(spec.size), Inbox(spec)
        publish(writer, vector)
        beta = stack.enter_context(requester_of("beta"))

        def code(codec: str) -> str:
            inbox.expect(None)
            # Who has been dropped may send into a connection that is none any more, and has to ask again.
            settings = PullSettings(timeout=WAIT, request_timeout=5.0)
            end = decoder(codec, spec)
            outcome = beta.pull("alpha", served.address, spec, settings, inbox.accept, decoder=end)
            return outcome.error.code if outcome.error else ""

        assert code("int8") == ""
        everything = RangeRequest(writer.incarnation, 1, 0, spec.size, "int8", (), False)
        for number in range(4):
            reader = stack.enter_context(contextlib.closing(BarePeer(served.address, buffer=8192)))
            before = writer.counter(Word.REQUESTS)
            for _ in range(16):
                assert reader.ask(everything, f"slow-{number}")
            assert wait_until(lambda before=before: writer.counter(Word.REQUESTS) == before + 16, WAIT)
        assert code("int8") == "busy"
        assert code("float32") == ""
        # The server looks several times a second: it notes the beginning before the time is over.
        served.let_pass(1.0)
        assert not wait_until(lambda: served.resets, 0.5)
        served.let_pass(HOARDED_SECONDS + 1.0)
        assert wait_until(lambda: served.resets == 1, WAIT)
        assert wait_until(lambda: code("int8") == "", 3 * WAIT)
        assert served.is_running and served.resets == 1
    assert caplog.text.count("hold the memory of all encoded replies; dropping all connections") == 1
