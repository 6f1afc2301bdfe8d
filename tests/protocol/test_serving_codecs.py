"""Ranges in every codec as a server sees them: limits, copies, leases, and replies that are never too large."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash

from p2pdl.codec import CODECS
from p2pdl.codec.ends import decoder
from p2pdl.protocol.messages import (
    RANGE_SHARDS,
    REPLY_LIMIT,
    Envelope,
    Message,
    RangeReply,
    RangeRequest,
    Refusal,
    SnapshotReply,
    SnapshotRequest,
)
from p2pdl.protocol.serving import Payload, Serving, ServingLimits, range_limit, seed_of
from p2pdl.protocol.uploads import PAUSE_BOUNDS
from p2pdl.spec import SHARD_ELEMENTS
from tests.protocol.nodes import PlainNode, node_serving
from tests.stores import random_vector

DELTAS = ["top-k:0.05", "top-k:0.05:int8", "top-k:1", "top-k:1:int8", "mean-threshold", "mean-threshold:int8"]
VECTOR = random_vector(RANGE_SHARDS * SHARD_ELEMENTS + 1600)
NODE = node_serving(VECTOR)
LIFE = NODE.incarnation()


SNAPSHOT_ID = 3


def ask(
    serving: Serving, message: Message, *, name: str = "alpha", now: float = 1.0, request_id: int = SNAPSHOT_ID
) -> tuple[Message, Payload]:
    return serving.on_request(Envelope(request_id, "lab", name, message), now)


def code_of(answer: tuple[Message, Payload]) -> str:
    reply, payload = answer
    assert isinstance(reply, Refusal) and not payload
    return reply.code


def begun(node: PlainNode = NODE, limits: ServingLimits | None = None) -> Serving:
    serving = Serving("lab", node, limits)
    assert isinstance(ask(serving, snapshot_request(node))[0], SnapshotReply)
    return serving


def snapshot_request(node: PlainNode = NODE, known: tuple[str, int] = ("", 0)) -> SnapshotRequest:
    return SnapshotRequest(node.spec_digest(), *known)


def in_advance(offset: int = 0, *, last: bool = False, snapshot_id: int = SNAPSHOT_ID) -> RangeRequest:
    """A range of the version that a snapshot request is answered with."""
    return RangeRequest("", snapshot_id, offset, SHARD_ELEMENTS, "float32", (), last)


def range_of(codec: str, shards: int, copies: tuple[int, ...] | None = None) -> RangeRequest:
    if copies is None:
        copies = () if codec in CODECS else (0,) * shards
    return RangeRequest(LIFE, 1, 0, shards * SHARD_ELEMENTS, codec, copies, False)


@pytest.mark.parametrize("codec", [*CODECS, *DELTAS])
def test_largest_range_of_a_codec_stays_within_the_reply_limit_and_one_more_shard_is_refused(codec: str) -> None:
    serving, limit = begun(), range_limit(codec)
    reply, payload = ask(serving, range_of(codec, limit))
    assert isinstance(reply, RangeReply)
    assert (len(payload), len(reply.digests), len(reply.copies)) == (limit, limit, 0 if codec in CODECS else limit)
    assert sum(memoryview(frame).nbytes for frame in payload) <= REPLY_LIMIT
    assert list(reply.digests) == [xxhash.xxh3_64_intdigest(memoryview(frame)) for frame in payload]
    assert code_of(ask(serving, range_of(codec, limit + 1))) == "bad-request"


@pytest.mark.parametrize(
    "codec, shards",
    [("float32", 4), ("bfloat16", 8), ("float16", 8), ("int8", 16), ("top-k:0.05", 4), ("top-k:0.05:int8", 15)],
)
def test_limit_of_a_range_depends_on_the_codec(codec: str, shards: int) -> None:
    assert range_limit(codec) == shards


@pytest.mark.parametrize("codec", ["", "int7", "top-k", "top-k:2", "top-k:nan:int8", "auto", "x" * 64])
def test_unknown_codec_is_refused_and_named(codec: str) -> None:
    for copies in ((), (0,)):
        reply, payload = ask(begun(), range_of(codec, 1, copies))
        assert isinstance(reply, Refusal) and reply.code == "bad-request" and not payload
        assert repr(codec) in reply.message


@pytest.mark.parametrize(
    "codec, copies",
    [("float32", (0,)), ("int8", (0, 0)), ("int8+deflate", (1,)), *((codec, ()) for codec in DELTAS)]
    + [("top-k:0.05", (1,)), ("top-k:0.05:int8", (1, 2, 3)), ("mean-threshold", (0,) * 16)],
)
def test_wrong_number_of_copies_is_refused(codec: str, copies: tuple[int, ...]) -> None:
    reply, payload = ask(begun(), range_of(codec, 2, copies))
    assert isinstance(reply, Refusal) and reply.code == "bad-request" and not payload
    assert reply.message == f"{len(copies)} digests of copies do not fit {codec}"


@pytest.mark.parametrize("codec", DELTAS)
def test_refused_ranges_leave_no_copy(codec: str) -> None:
    serving = begun()
    ask(serving, range_of(codec, 2, (0,)))
    ask(serving, range_of(codec, range_limit(codec) + 1))
    assert serving.encoders.copies == 0


def test_float32_frames_are_the_vector_itself_under_its_published_digests() -> None:
    reply, payload = ask(begun(), range_of("float32", 4))
    assert isinstance(reply, RangeReply)
    assert reply.digests == NODE.published[0].shard_digests[:4]
    assert all(np.shares_memory(frame, NODE.published[0].vector) for frame in payload)  # type: ignore[arg-type]


def test_repeated_range_of_a_stateless_codec_has_the_same_bits_and_each_shard_its_own_chance() -> None:
    serving = begun()
    (first, frames), (second, again) = (ask(serving, range_of("int8", 2)) for _ in range(2))
    assert first == second
    for frame, other in zip(frames, again, strict=True):
        np.testing.assert_array_equal(frame, other)
    seeds = {seed_of(version, number) for version in range(1, 50) for number in range(200)}
    assert len(seeds) == 49 * 200
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_digest_of_a_copy_in_the_reply_is_what_the_puller_has_afterwards() -> None:
    assert NODE.spec is not None
    end = decoder("top-k:0.05:int8", NODE.spec)
    reply, payload = ask(begun(), range_of("top-k:0.05:int8", 3))
    assert isinstance(reply, RangeReply)
    for number, (frame, copy) in enumerate(zip(payload, reply.copies, strict=True)):
        end.decode(number, memoryview(frame), copy)
        assert end.digest(number) == copy != 0


def test_range_in_advance_is_of_the_version_leased_to_its_puller() -> None:
    node = node_serving(VECTOR[:SHARD_ELEMENTS])
    serving = begun(node, ServingLimits(uploads=2))
    node.publish(VECTOR[:SHARD_ELEMENTS] + 1)
    ask(serving, snapshot_request(node), name="gamma")
    for name, version in (("alpha", 1), ("gamma", 2)):
        reply, _ = ask(serving, in_advance(), name=name)
        assert isinstance(reply, RangeReply) and reply.version == version
    assert code_of(ask(serving, in_advance(), name="stranger")) == "no-lease"


def test_range_in_advance_without_a_snapshot_has_no_lease() -> None:
    for snapshot_id in (0, SNAPSHOT_ID, 2**63 - 1):
        assert code_of(ask(Serving("lab", NODE), in_advance(snapshot_id=snapshot_id))) == "no-lease"


@pytest.mark.parametrize("snapshot_id", [0, 1, SNAPSHOT_ID - 1, SNAPSHOT_ID + 1])
def test_range_in_advance_names_the_request_that_leased_its_version(snapshot_id: int) -> None:
    serving = begun()
    assert code_of(ask(serving, in_advance(snapshot_id=snapshot_id))) == "no-lease"
    assert isinstance(ask(serving, in_advance())[0], RangeReply)


def test_late_last_range_of_a_refused_pull_leaves_the_next_pull_alone() -> None:
    serving = begun()
    assert code_of(ask(serving, snapshot_request(), name="gamma", request_id=10)) == "busy"
    assert isinstance(ask(serving, in_advance(last=True))[0], RangeReply)
    assert isinstance(ask(serving, snapshot_request(), name="gamma", request_id=20)[0], SnapshotReply)
    late = in_advance(last=True, snapshot_id=10)
    assert code_of(ask(serving, late, name="gamma")) == "no-lease"
    assert isinstance(ask(serving, in_advance(snapshot_id=20), name="gamma")[0], RangeReply)


def test_refused_snapshot_gives_no_lease_to_a_puller_whose_last_pull_broke_off() -> None:
    serving = begun()
    later = 1.0 + PAUSE_BOUNDS.initial
    assert isinstance(ask(serving, snapshot_request(), name="gamma", now=later)[0], SnapshotReply)
    assert code_of(ask(serving, snapshot_request(), now=later, request_id=10)) == "busy"
    assert code_of(ask(serving, in_advance(snapshot_id=10), now=later)) == "no-lease"


def test_range_in_advance_after_an_unchanged_version_has_no_lease() -> None:
    serving = Serving("lab", NODE)
    for known, code in (((LIFE, 1), "no-lease"), (("other-life", 1), ""), ((LIFE, 2), "")):
        assert isinstance(ask(serving, snapshot_request(known=known))[0], SnapshotReply)
        answer = ask(serving, in_advance())
        assert code_of(answer) == code if code else isinstance(answer[0], RangeReply)


def test_range_in_advance_after_a_refused_first_snapshot_has_no_lease() -> None:
    serving = begun()
    assert code_of(ask(serving, snapshot_request(), name="gamma")) == "busy"
    assert code_of(ask(serving, in_advance(), name="gamma")) == "no-lease"
    assert code_of(ask(serving, SnapshotRequest("f" * 32), name="delta")) == "model"
    assert code_of(ask(serving, in_advance(), name="delta")) == "no-lease"


def test_last_range_ends_the_lease_and_the_upload() -> None:
    serving = begun()
    assert isinstance(ask(serving, in_advance())[0], RangeReply)
    assert code_of(ask(serving, snapshot_request(), name="gamma")) == "busy"
    assert isinstance(ask(serving, in_advance(SHARD_ELEMENTS, last=True))[0], RangeReply)
    assert code_of(ask(serving, in_advance())) == "no-lease"
    assert isinstance(ask(serving, snapshot_request(), name="gamma")[0], SnapshotReply)


def test_refused_last_range_ends_nothing() -> None:
    serving = begun()
    assert code_of(ask(serving, RangeRequest("", SNAPSHOT_ID, 16, 16, "float32", (), True))) == "bad-request"
    assert isinstance(ask(serving, in_advance())[0], RangeReply)
    assert code_of(ask(serving, snapshot_request(), name="gamma")) == "busy"


def test_new_life_ends_the_leases_of_the_old_one() -> None:
    node = node_serving(VECTOR[:SHARD_ELEMENTS])
    serving = begun(node)
    node.life = "second-life"
    assert code_of(ask(serving, in_advance())) == "no-lease"
