"""What a node answers, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pdl.protocol.messages import (
    REFUSALS,
    Envelope,
    Message,
    RangeReply,
    RangeRequest,
    Refusal,
    SnapshotReply,
    SnapshotRequest,
    SpecReply,
    SpecRequest,
    StatusReply,
    StatusRequest,
)
from p2pdl.protocol.serving import SPEC_FRAME_BYTES, SPEC_FRAMES, Payload, Serving, ServingLimits, refusal
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, shard_digests
from tests.protocol.nodes import PlainNode, node_serving
from tests.stores import dense_spec, random_vector

VECTOR = random_vector(5 * SHARD_ELEMENTS + 100)
SIZE = VECTOR.size


def ask(serving: Serving, message: Message, *, cluster: str = "lab", now: float = 1.0) -> tuple[Message, Payload]:
    return serving.on_request(Envelope(3, cluster, "alpha", message), now)


def code_of(answer: tuple[Message, Payload]) -> str:
    reply, payload = answer
    assert isinstance(reply, Refusal) and not payload
    return reply.code


def begun(limits: ServingLimits | None = None) -> tuple[Serving, PlainNode]:
    node = node_serving(VECTOR)
    serving = Serving("lab", node, limits)
    assert isinstance(ask(serving, SnapshotRequest(node.spec_digest()))[0], SnapshotReply)
    return serving, node


@pytest.mark.parametrize(
    "message",
    [SnapshotRequest("x"), RangeRequest("first-life", 1, 0, 16, "float32", (), False), SpecRequest(), StatusRequest()],
)
def test_request_for_another_cluster_is_refused_whatever_it_is(message: Message) -> None:
    serving = Serving("lab", node_serving(VECTOR))
    answer = ask(serving, message, cluster="other")
    assert code_of(answer) == "cluster"
    assert isinstance(answer[0], Refusal) and answer[0].message == "this is cluster 'lab', not 'other'"


def test_reply_as_a_request_is_refused() -> None:
    answer = ask(Serving("lab", PlainNode()), SpecReply("x"))
    assert code_of(answer) == "bad-request"
    assert isinstance(answer[0], Refusal) and answer[0].message == "SpecReply is not a request"


def test_snapshot_describes_the_newest_version() -> None:
    node = node_serving(VECTOR)
    node.publish(VECTOR + 1, loss=0.25, now=10.0, final=True)
    info = node.published[-1].info
    reply, payload = ask(Serving("lab", node), SnapshotRequest(node.spec_digest()), now=12.5)
    assert reply == SnapshotReply("first-life", 2, 20, 1280, 0.25, True, info.digest, SIZE, 2.5)
    assert not payload


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_snapshot_of_a_loss_not_finite_says_none(loss: float) -> None:
    node = PlainNode(dense_spec(16))
    node.publish(VECTOR[:16], loss=loss)
    reply, _ = ask(Serving("lab", node), SnapshotRequest(node.spec_digest()))
    assert isinstance(reply, SnapshotReply) and reply.loss is None


def test_snapshot_age_is_never_negative() -> None:
    node = PlainNode(dense_spec(16))
    node.publish(VECTOR[:16], now=9.0)
    reply, _ = ask(Serving("lab", node), SnapshotRequest(node.spec_digest()), now=8.0)
    assert isinstance(reply, SnapshotReply) and reply.age == 0.0


def test_snapshot_for_another_model_is_refused_with_both_digests() -> None:
    node = node_serving(VECTOR)
    answer = ask(Serving("lab", node), SnapshotRequest("f" * 32))
    assert code_of(answer) == "model"
    assert isinstance(answer[0], Refusal)
    assert node.spec_digest() in answer[0].message and "f" * 32 in answer[0].message


def test_snapshot_without_model_or_weights_is_not_ready() -> None:
    assert code_of(ask(Serving("lab", PlainNode()), SnapshotRequest("x"))) == "not-ready"
    node = PlainNode(dense_spec(16))
    answer = ask(Serving("lab", node), SnapshotRequest(node.spec_digest()))
    assert code_of(answer) == "not-ready"
    assert isinstance(answer[0], Refusal) and answer[0].message == REFUSALS["not-ready"]


@pytest.mark.parametrize(
    "offset, length",
    [
        (0, SHARD_ELEMENTS),
        (0, 4 * SHARD_ELEMENTS),
        (SHARD_ELEMENTS, 2 * SHARD_ELEMENTS),
        (5 * SHARD_ELEMENTS, 100),
        (2 * SHARD_ELEMENTS, 3 * SHARD_ELEMENTS + 100),
    ],
)
def test_range_of_whole_shards_is_answered_with_slices_and_digests(offset: int, length: int) -> None:
    serving, _ = begun()
    reply, payload = ask(serving, RangeRequest("first-life", 1, offset, length, "float32", (), False))
    part = VECTOR[offset : offset + length]
    assert reply == RangeReply(1, offset, shard_digests(part), ())
    assert [frame.size for frame in payload if isinstance(frame, np.ndarray)] == [
        min(SHARD_ELEMENTS, length - start) for start in range(0, length, SHARD_ELEMENTS)
    ]
    np.testing.assert_array_equal(np.concatenate(payload), part)  # type: ignore[arg-type]
    assert all(isinstance(frame, np.ndarray) and frame.base is not None for frame in payload)


def test_range_that_would_reach_beyond_four_shards_or_the_end_is_refused() -> None:
    serving, _ = begun()
    for offset, length in [
        (0, 0),
        (1, SHARD_ELEMENTS),
        (16, 16),
        (0, 16),
        (0, SHARD_ELEMENTS + 16),
        (0, 5 * SHARD_ELEMENTS),
        (SHARD_ELEMENTS, SIZE - SHARD_ELEMENTS),
        (5 * SHARD_ELEMENTS, 101),
        (5 * SHARD_ELEMENTS, SHARD_ELEMENTS),
        (6 * SHARD_ELEMENTS, SHARD_ELEMENTS),
        (0, 2**63 - 1),
        (2**62, 2**62),
        (2**63 - SHARD_ELEMENTS, SHARD_ELEMENTS - 1),
    ]:
        assert (
            code_of(ask(serving, RangeRequest("first-life", 1, offset, length, "float32", (), False))) == "bad-request"
        ), (offset, length)


@pytest.mark.parametrize("life, version", [("first-life", 2), ("first-life", 0), ("other-life", 1)])
def test_range_of_a_version_not_held_is_gone(life: str, version: int) -> None:
    serving, _ = begun()
    answer = ask(serving, RangeRequest(life, version, 0, SHARD_ELEMENTS, "float32", (), False))
    assert code_of(answer) == "version-gone"
    assert isinstance(answer[0], Refusal) and f"version {version}" in answer[0].message


def test_range_without_snapshot_before_is_gone() -> None:
    serving = Serving("lab", node_serving(VECTOR))
    assert (
        code_of(ask(serving, RangeRequest("first-life", 1, 0, SHARD_ELEMENTS, "float32", (), False))) == "version-gone"
    )


def test_range_of_the_version_before_is_answered_until_its_last_part() -> None:
    serving, node = begun(ServingLimits(uploads=2))
    for seconds in range(2, 6):
        node.publish(VECTOR + seconds)
        asked = SnapshotRequest(node.spec_digest())
        assert isinstance(ask(serving, asked, now=1.0)[0], SnapshotReply)
        assert isinstance(serving.on_request(Envelope(1, "lab", "other", asked), 1.0 * seconds)[0], SnapshotReply)
    reply, _ = ask(serving, RangeRequest("first-life", 5, 0, SHARD_ELEMENTS, "float32", (), False))
    assert isinstance(reply, RangeReply)


def test_new_life_of_the_node_ends_pulls_of_the_old_one() -> None:
    serving, node = begun()
    node.life = "second-life"
    assert (
        code_of(ask(serving, RangeRequest("first-life", 1, 0, SHARD_ELEMENTS, "float32", (), False))) == "version-gone"
    )
    reply, _ = ask(serving, SnapshotRequest(node.spec_digest()))
    assert isinstance(reply, SnapshotReply) and (reply.incarnation, reply.version) == ("second-life", 1)
    assert isinstance(
        ask(serving, RangeRequest("second-life", 1, 0, SHARD_ELEMENTS, "float32", (), False))[0], RangeReply
    )


def test_status_is_answered_before_there_is_a_model() -> None:
    reply, payload = ask(Serving("lab", PlainNode()), StatusRequest())
    assert isinstance(reply, StatusReply) and not payload


def test_spec_is_answered_with_its_rows_and_not_before_it_is_known() -> None:
    assert code_of(ask(Serving("lab", PlainNode()), SpecRequest())) == "not-ready"
    node = node_serving(VECTOR)
    reply, payload = ask(Serving("lab", node), SpecRequest())
    assert reply == SpecReply(node.spec_digest())
    assert payload == [node.spec_rows()]


def test_spec_of_a_very_long_model_comes_in_frames_up_to_a_limit() -> None:
    def payload_of(count: int) -> list[bytes]:
        spec = WeightSpec.layout([(f"{number:08d}" * 500, (1,), "float32", True) for number in range(count)])
        _, payload = ask(Serving("lab", PlainNode(spec)), SpecRequest())
        assert b"".join(payload) == "\n".join(spec.rows()).encode()[: SPEC_FRAMES * SPEC_FRAME_BYTES]  # type: ignore[arg-type]
        return list(payload)  # type: ignore[arg-type]

    assert [len(frame) for frame in payload_of(300)][:-1] == [SPEC_FRAME_BYTES]
    assert [len(frame) for frame in payload_of(4500)] == [SPEC_FRAME_BYTES] * SPEC_FRAMES


def test_refusal_text_is_cut_to_what_a_header_may_hold() -> None:
    assert refusal("internal") == Refusal("internal", REFUSALS["internal"])
    assert len(refusal("internal", "x" * 5000).message) == 1024
    with pytest.raises(KeyError):
        refusal("unheard-of")


def test_asking_for_a_version_already_known_keeps_nothing_for_the_asker() -> None:
    node = node_serving(VECTOR)
    serving = Serving("lab", node)
    life, spec = node.incarnation(), node.spec_digest()
    for puller in ("beta", "gamma", "delta"):
        for _ in range(2):
            node.publish(VECTOR)
            newest = node.newest_version()
            for known in (("", 0), (life, newest)):
                request = SnapshotRequest(spec, *known)
                reply, _ = serving.on_request(Envelope(1, "lab", puller, request), 1.0)
                # Were the leases of earlier askers still there, an older version would be served.
                assert isinstance(reply, SnapshotReply) and reply.version == newest
