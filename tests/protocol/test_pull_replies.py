"""The pull core by hand: replies that come twice, late, unasked, or after the end change nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from p2pdl.codec import create
from p2pdl.codec.ends import StatelessDecoder
from p2pdl.errors import PeerTimeout
from p2pdl.protocol.actions import Accept, Action, Begin, Complete, Fail, Send, Unchanged
from p2pdl.protocol.messages import Envelope, RangeReply, RangeRequest, Refusal, Reply, SnapshotReply, SnapshotRequest
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
    return envelope(sent.id, RangeReply(4, offset, shard_digests(shard), ())), [shard.tobytes()]


def begun(window: int = 4) -> tuple[Pull, list[Send]]:
    """A pull whose snapshot has been answered, and its range requests in flight."""
    pull, first, sends = started(window)
    assert kinds(pull.on_reply(envelope(first.id, SNAPSHOT), [], 1.0)) == [Begin]
    return pull, sends


def started(window: int = 4, part: range | None = None) -> tuple[Pull, Send, list[Send]]:
    """A pull that has asked, its snapshot request and its first range requests."""
    settings = PullSettings(timeout=100, request_timeout=10, window=window, range_shards=1)
    decoder = StatelessDecoder(create("float32"), VECTOR.size)
    pull = Pull("beta", VECTOR.size, "spec", count(1), settings, decoder, None, part)
    first, *sends = pull.on_start(0.0)
    assert isinstance(first, Send) and isinstance(first.request, SnapshotRequest)
    assert all(isinstance(send, Send) for send in sends)
    return pull, first, sends  # type: ignore[return-value]


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
        assert pull.on_reply(envelope(request_id, RangeReply(4, 0, (), ())), [], 9.0) == []
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
    assert again.request == replace(sends[0].request, incarnation="life", version=4)  # type: ignore[type-var]
    assert again.id not in {send.id for send in sends}
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
    assert "not done within 100 s (2 of 3 MiB of the model had come)" in failed.error.message


@pytest.mark.parametrize("frame_type", [bytes, memoryview, bytearray])
def test_frames_of_any_buffer_type_are_accepted(frame_type: type) -> None:
    pull, sends = begun()
    reply, [frame] = answer(sends[0])
    [accept] = pull.on_reply(reply, [frame_type(frame)], 2.0)
    assert isinstance(accept, Accept)
    assert (accept.offset, accept.indices) == (0, None)
    np.testing.assert_array_equal(accept.values, VECTOR[:SHARD_ELEMENTS])


def test_first_ranges_are_asked_for_with_the_snapshot_and_name_its_request() -> None:
    pull, first, sends = started(window=2)
    assert [send.request for send in sends] == [
        RangeRequest("", first.id, 0, SHARD_ELEMENTS, "float32", (), False),
        RangeRequest("", first.id, SHARD_ELEMENTS, SHARD_ELEMENTS, "float32", (), False),
    ]
    pull.on_reply(envelope(1, SNAPSHOT), [], 1.0)
    _, third = pull.on_reply(*answer(sends[0]), 2.0)
    assert isinstance(third, Send)
    assert third.request == RangeRequest("life", 4, 2 * SHARD_ELEMENTS, 5, "float32", (), True)


def test_range_answered_before_the_snapshot_is_not_taken() -> None:
    pull, first, sends = started()
    assert pull.on_reply(*answer(sends[0]), 0.5) == []
    assert kinds(pull.on_reply(envelope(first.id, SNAPSHOT), [], 1.0)) == [Begin]
    assert kinds(pull.on_reply(*answer(sends[0]), 1.0)) == [Accept]


def test_ranges_refused_after_unchanged_or_a_refused_snapshot_change_nothing() -> None:
    no_lease = Refusal("no-lease", "not granted")
    settings, decoder = PullSettings(range_shards=1, window=4), StatelessDecoder(create("float32"), VECTOR.size)
    for reply, outcome in ((SNAPSHOT, Unchanged), (Refusal("busy", "later"), Fail)):
        pull = Pull("beta", VECTOR.size, "spec", count(1), settings, decoder, ("life", 4))
        sends = [action for action in pull.on_start(0.0) if isinstance(action, Send)]
        assert kinds(pull.on_reply(envelope(1, reply), [], 1.0)) == [outcome]
        assert pull.over
        for send in sends[1:]:
            assert pull.on_reply(envelope(send.id, no_lease), [], 1.0) == []


def test_refused_range_of_a_pull_that_goes_on_ends_it() -> None:
    pull, sends = begun()
    [failed] = pull.on_reply(envelope(sends[0].id, Refusal("no-lease", "not granted")), [], 2.0)
    assert isinstance(failed, Fail) and failed.error.code == "no-lease"


@pytest.mark.parametrize("part", [range(0, 1), range(1, 2), range(1, 3), range(2, 3)])
def test_part_asks_for_its_shards_alone_and_says_which_request_is_the_last(part: range) -> None:
    pull, first, sends = started(part=part)
    requests = [send.request for send in sends]
    assert all(isinstance(request, RangeRequest) for request in requests)
    assert [request.offset // SHARD_ELEMENTS for request in requests] == list(part)  # type: ignore[union-attr]
    assert [request.last for request in requests] == [number == part[-1] for number in part]  # type: ignore[union-attr]
    # The whole version's digest says nothing about a part of it.
    pull.on_reply(envelope(first.id, replace(SNAPSHOT, digest=0)), [], 1.0)
    for send in sends[:-1]:
        assert kinds(pull.on_reply(*answer(send), 2.0)) == [Accept]
    assert kinds(pull.on_reply(*answer(sends[-1]), 2.0)) == [Accept, Complete]


def test_shards_before_the_damaged_one_are_kept_and_the_rest_is_asked_for_again() -> None:
    settings = PullSettings(range_shards=3, window=4)
    pull = Pull("beta", VECTOR.size, "spec", count(1), settings, StatelessDecoder(create("float32"), VECTOR.size))
    _, ask = pull.on_start(0.0)
    assert isinstance(ask, Send)
    pull.on_reply(envelope(1, SNAPSHOT), [], 1.0)
    reply, frames = envelope(ask.id, RangeReply(4, 0, shard_digests(VECTOR), ())), shards()
    accept, again = pull.on_reply(reply, [frames[0], bytes(len(frames[1])), frames[2]], 2.0)
    assert isinstance(accept, Accept) and accept.offset == 0
    assert isinstance(again, Send)
    rest = VECTOR.size - SHARD_ELEMENTS
    assert again.request == RangeRequest("life", 4, SHARD_ELEMENTS, rest, "float32", (), True)
    second = envelope(again.id, RangeReply(4, SHARD_ELEMENTS, shard_digests(VECTOR)[1:], ()))
    assert kinds(pull.on_reply(second, frames[1:], 3.0)) == [Accept, Accept, Complete]


def shards() -> list[bytes]:
    return [VECTOR[start : start + SHARD_ELEMENTS].tobytes() for start in range(0, VECTOR.size, SHARD_ELEMENTS)]


def test_longest_silence_is_the_longest_time_between_replies() -> None:
    pull, sends = begun()
    assert pull.longest_silence == 1.0
    for send, now in zip(sends, (1.5, 4.0, 4.5), strict=True):
        pull.on_reply(*answer(send), now)
    assert pull.longest_silence == 2.5
