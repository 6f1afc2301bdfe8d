"""The pull core by hand: replies that come twice, late, unasked, or after the end change nothing."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from p2pdl.errors import PeerTimeout
from p2pdl.protocol.actions import Accept, Action, Begin, Complete, Fail, Send
from p2pdl.protocol.messages import Envelope, RangeReply, RangeRequest, Reply, SnapshotReply
from p2pdl.protocol.pull import Pull, PullSettings
from p2pdl.spec import SHARD_ELEMENTS, shard_digests, vector_digest
from tests.stores import random_vector

VECTOR = random_vector(2 * SHARD_ELEMENTS + 5)
SNAPSHOT = SnapshotReply("life", 4, 1, 64, 0.5, False, vector_digest(VECTOR), VECTOR.size, 0.0)


def envelope(request_id: int, reply: Reply) -> Envelope:
    return Envelope(request_id, "lab", "beta", reply)


def answer(sent: Send, delta: float = 0.0) -> tuple[Envelope, list[bytes]]:
    """The right reply to a range request; of other values with the right digests, if `delta` is not 0."""
    assert isinstance(sent.request, RangeRequest)
    offset, stop = sent.request.offset, sent.request.offset + sent.request.length
    shard = VECTOR[offset:stop] + np.float32(delta)
    return envelope(sent.id, RangeReply(4, offset, shard_digests(shard))), [shard.tobytes()]


def begun(window: int = 4) -> tuple[Pull, list[Send]]:
    """A pull whose snapshot has been answered, and its range requests in flight."""
    pull = Pull("beta", VECTOR.size, "spec", count(1), PullSettings(timeout=100, request_timeout=10, window=window))
    [first] = pull.on_start(0.0)
    assert isinstance(first, Send)
    begin, *sends = pull.on_reply(envelope(first.id, SNAPSHOT), [], 1.0)
    assert isinstance(begin, Begin)
    assert all(isinstance(send, Send) for send in sends)
    return pull, sends  # type: ignore[return-value]


def kinds(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def test_replies_in_any_order_complete_the_pull() -> None:
    pull, sends = begun()
    for send in sends[::-1][:-1]:
        assert kinds(pull.on_reply(*answer(send), 2.0)) == [Accept]
    assert kinds(pull.on_reply(*answer(sends[0]), 2.0)) == [Accept, Complete]
    assert pull.over


def test_reply_that_comes_twice_is_taken_once() -> None:
    pull, sends = begun()
    assert kinds(pull.on_reply(*answer(sends[0]), 2.0)) == [Accept]
    assert pull.on_reply(*answer(sends[0]), 2.0) == []
    assert pull.on_reply(*answer(sends[0], delta=1), 2.0) == []
    assert kinds(pull.on_reply(*answer(sends[1]), 2.0)) == [Accept]
    assert kinds(pull.on_reply(*answer(sends[2]), 2.0)) == [Accept, Complete]


def test_snapshot_reply_that_comes_twice_is_taken_once() -> None:
    pull, sends = begun()
    assert pull.on_reply(envelope(1, SNAPSHOT), [], 2.0) == []
    assert not pull.over


def test_reply_with_an_unknown_id_is_ignored_and_does_not_count_as_life() -> None:
    pull, sends = begun()
    for request_id in (0, 99, 2**64 - 1):
        assert pull.on_reply(envelope(request_id, RangeReply(4, 0, ())), [], 9.0) == []
    assert pull.deadline == 11.0


def test_reply_after_the_end_is_ignored() -> None:
    pull, sends = begun()
    for send in sends:
        pull.on_reply(*answer(send), 2.0)
    assert pull.over
    for send in sends:
        assert pull.on_reply(*answer(send), 3.0) == []
    assert pull.on_tick(1000.0) == []


def test_reply_after_a_failure_is_ignored() -> None:
    pull, sends = begun()
    assert kinds(pull.on_tick(11.0)) == [Fail]
    assert pull.on_reply(*answer(sends[0]), 11.0) == []
    assert pull.on_tick(12.0) == []


def test_window_is_refilled_one_for_one() -> None:
    pull, sends = begun(window=2)
    assert len(sends) == 2
    actions = pull.on_reply(*answer(sends[0]), 2.0)
    assert kinds(actions) == [Accept, Send]
    assert kinds(pull.on_reply(*answer(sends[1]), 2.0)) == [Accept]


def test_damaged_range_is_asked_for_again_under_a_new_id_and_counts_in_the_window() -> None:
    pull, sends = begun(window=2)
    reply, [frame] = answer(sends[0])
    [again] = pull.on_reply(reply, [frame[:-1] + bytes([frame[-1] ^ 1])], 2.0)
    assert isinstance(again, Send)
    assert again.request == sends[0].request and again.id not in {send.id for send in sends}
    assert pull.on_reply(*answer(sends[0]), 2.0) == []
    assert kinds(pull.on_reply(*answer(again), 2.0)) == [Accept, Send]


def test_deadlines_move_with_replies_but_not_beyond_the_whole() -> None:
    pull, sends = begun()
    assert pull.deadline == 11.0
    assert pull.on_tick(10.9) == []
    pull.on_reply(*answer(sends[0]), 8.0)
    assert pull.deadline == 18.0
    pull.on_reply(*answer(sends[1]), 95.0)
    assert pull.deadline == 100.0
    [failed] = pull.on_tick(100.0)
    assert isinstance(failed, Fail) and isinstance(failed.error, PeerTimeout)
    assert "not done within 100 s (2.0 of 2.0 MiB had come)" in failed.error.message


@pytest.mark.parametrize("frame_type", [bytes, memoryview, bytearray])
def test_frames_of_any_buffer_type_are_accepted(frame_type: type) -> None:
    pull, sends = begun()
    reply, [frame] = answer(sends[0])
    [accept] = pull.on_reply(reply, [frame_type(frame)], 2.0)
    assert isinstance(accept, Accept)
    np.testing.assert_array_equal(accept.shard, VECTOR[:SHARD_ELEMENTS])
