"""Every codec from a server's vector to a puller's: values within the codec's bound, and equal copies at both ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xxhash

from p2pdl.codec import create, is_stateless
from p2pdl.codec.delta import ReceivedCopy, SentCopy
from p2pdl.codec.ends import decoder, shard_nbytes
from p2pdl.errors import PeerRefused, ProtocolError, RejectedWeights
from p2pdl.protocol.actions import Accept, Complete, Fail
from p2pdl.protocol.messages import RangeReply, RangeRequest, Reply, Request
from p2pdl.protocol.pull import ATTEMPTS
from p2pdl.protocol.serving import Serving
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector
from tests.protocol.nodes import (
    CLUSTER,
    MODEL,
    Pulled,
    damage_replies,
    model_serving,
    model_vector,
    network_of,
    pull_model,
)

STATELESS = ["float32", "bfloat16", "float16", "int8", "float32+deflate", "bfloat16+deflate", "int8+deflate"]
DELTAS = ["top-k:0.05", "top-k:0.05:int8", "mean-threshold", "mean-threshold:int8"]
VECTOR = model_vector(0)
SHARDS = (slice(0, SHARD_ELEMENTS), slice(SHARD_ELEMENTS, MODEL.size))
IS_STATE = np.zeros(MODEL.size, bool)
for _span in MODEL.state_spans:
    IS_STATE[_span] = True

Payload = list[bytes]


def error_of(pulled: Pulled) -> Exception:
    assert isinstance(pulled.last, Fail)
    return pulled.last.error


def errors_allowed(codec: str, vector: Float32Vector) -> Float32Vector:
    """How far each value of a whole shard may be from the original."""
    if is_stateless(codec):
        return np.concatenate([create(codec).error_bound(vector[shard]) for shard in SHARDS])
    if not codec.endswith("int8"):
        return np.zeros_like(vector)
    # Half a step of the greatest magnitude, and the rounding of float32; statistics are exact.
    half_a_step = np.abs(vector).max() / 127 / 2 * (1 + 1e-4)
    return np.where(IS_STATE, np.float32(0), np.float32(half_a_step))


@pytest.mark.parametrize("range_shards", [1, 2])
@pytest.mark.parametrize("codec", [*STATELESS, *DELTAS])
def test_pull_in_any_codec_is_within_the_codecs_bound(codec: str, range_shards: int) -> None:
    network = network_of(model_serving(MODEL, VECTOR))
    pulled = pull_model(network, decoder(codec, MODEL), range_shards=range_shards)
    assert isinstance(pulled.last, Complete)
    assert (np.abs(pulled.vector - VECTOR) <= errors_allowed(codec, VECTOR)).all()
    accepted = [action for action in pulled.actions if isinstance(action, Accept)]
    assert [(accept.offset, accept.indices) for accept in accepted] == [(0, None), (SHARD_ELEMENTS, None)]
    ranges = [request for request in pulled.requests() if isinstance(request, RangeRequest)]
    assert {request.codec for request in ranges} == {codec}
    assert [request.copies for request in ranges] == [(0,) * (0 if is_stateless(codec) else range_shards)] * len(ranges)


@pytest.mark.parametrize("codec", DELTAS)
def test_copies_of_both_ends_are_equal_to_the_bit(codec: str) -> None:
    node = model_serving(MODEL, VECTOR)
    network, serving, end = network_of(node), Serving(CLUSTER, node), decoder(codec, MODEL)
    damage_replies(network, node, lambda request, reply, payload: (reply, payload), serving)
    assert isinstance(end, ReceivedCopy)
    for version in range(4):
        pulled = pull_model(network, end)
        assert isinstance(pulled.last, Complete)
        server_end = serving.encoders.get("alpha", codec, MODEL)
        assert isinstance(server_end, SentCopy)
        np.testing.assert_array_equal(end.vector.view(np.uint32), server_end._copy.view(np.uint32))
        sent = ~np.isnan(pulled.vector)
        np.testing.assert_array_equal(pulled.vector[sent], end.vector[sent])
        assert sent[IS_STATE].all()
        assert sent.all() == (version == 0)
        node.publish(VECTOR + model_vector(1 + version, 0.1))
    assert serving.encoders.copies == 1


def test_pulls_of_one_version_in_a_stateless_codec_have_the_same_bits() -> None:
    network = network_of(model_serving(MODEL, VECTOR))
    first, second = (pull_model(network, decoder("int8", MODEL), name=name).vector for name in ("alpha", "gamma"))
    np.testing.assert_array_equal(first.view(np.uint32), second.view(np.uint32))


@pytest.mark.parametrize("codec", ["bfloat16", "int8", "int8+deflate", "top-k:0.05", "mean-threshold:int8"])
def test_version_digest_is_of_float32_alone(codec: str) -> None:
    node = model_serving(MODEL, VECTOR)
    network = network_of(node)
    published = node.published[0]
    node.published[0] = replace(published, info=replace(published.info, digest=published.info.digest ^ 1))
    assert isinstance(pull_model(network, decoder(codec, MODEL)).last, Complete)
    error = error_of(pull_model(network, decoder("float32", MODEL)))
    assert isinstance(error, RejectedWeights) and error.code == "digest"


@pytest.mark.parametrize("codec", ["int8", "int8+deflate", "top-k:0.05", "top-k:0.05:int8"])
@pytest.mark.parametrize("damaged", [0, 1])
def test_damaged_frame_of_any_codec_is_asked_for_again(codec: str, damaged: int) -> None:
    node = model_serving(MODEL, VECTOR)
    network, end = network_of(node), decoder(codec, MODEL)
    node.publish(VECTOR)
    pull_model(network, end)
    count = 0

    def damage(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        nonlocal count
        if isinstance(reply, RangeReply):
            count += 1
            if count == 1:
                payload[damaged] = payload[damaged][:-1] + bytes([payload[damaged][-1] ^ 1])
        return reply, payload

    node.publish(VECTOR + 1)
    requests = damage_replies(network, node, damage)
    pulled = pull_model(network, end, range_shards=2)
    assert isinstance(pulled.last, Complete)
    ranges = [request for request in requests if isinstance(request, RangeRequest)]
    assert [request.offset // SHARD_ELEMENTS for request in ranges] == [0, damaged]
    assert [request.last for request in ranges] == [True, True]
    held = end.vector if isinstance(end, ReceivedCopy) else pulled.vector
    assert (np.abs(held - VECTOR - 1)[damaged * SHARD_ELEMENTS :] <= 2 * np.abs(VECTOR + 1).max() / 127).all()


@pytest.mark.parametrize("codec", ["bfloat16", "int8", "int8+deflate", "top-k:0.05:int8"])
def test_frame_of_another_length_with_its_own_digest_is_rejected(codec: str) -> None:
    node = model_serving(MODEL, VECTOR)
    network = network_of(node)

    def lengthen(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        if not isinstance(reply, RangeReply):
            return reply, payload
        frame = payload[0] + bytes(shard_nbytes(codec))
        return replace(reply, digests=(xxhash.xxh3_64_intdigest(frame),)), [frame]

    damage_replies(network, node, lengthen)
    error = error_of(pull_model(network, decoder(codec, MODEL)))
    assert isinstance(error, RejectedWeights) and error.code == "length"
    assert error.message.startswith("beta: ")


def test_copy_that_the_peer_states_wrongly_is_asked_for_whole_and_then_rejected() -> None:
    node = model_serving(MODEL, VECTOR)
    network = network_of(node)

    def lie(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        return (replace(reply, copies=(12345,)), payload) if isinstance(reply, RangeReply) else (reply, payload)

    requests = damage_replies(network, node, lie)
    error = error_of(pull_model(network, decoder("top-k:0.05", MODEL)))
    assert isinstance(error, RejectedWeights) and error.code == "digest"
    assert "beta: the copy of shard 0 is not the peer's" in error.message
    asked = [request for request in requests if isinstance(request, RangeRequest) and request.offset == 0]
    assert [request.copies for request in asked] == [(0,)] * ATTEMPTS


@pytest.mark.parametrize("codec, copies", [("int8", (1,)), ("top-k:0.05", ()), ("top-k:0.05", (1, 2))])
def test_reply_with_another_number_of_copies_is_no_answer(codec: str, copies: tuple[int, ...]) -> None:
    node = model_serving(MODEL, VECTOR)
    network = network_of(node)

    def change(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        return (replace(reply, copies=copies), payload) if isinstance(reply, RangeReply) else (reply, payload)

    damage_replies(network, node, change)
    error = error_of(pull_model(network, decoder(codec, MODEL)))
    assert isinstance(error, ProtocolError)
    assert f"stated {len(copies)} digests of copies, not {int(codec != 'int8')}" in error.message


def test_codec_unknown_to_the_peer_ends_the_pull() -> None:
    network = network_of(model_serving(MODEL, VECTOR))
    end = decoder("int8", MODEL)
    end.name = "int7"  # type: ignore[misc]
    error = error_of(pull_model(network, end))
    assert isinstance(error, PeerRefused) and error.code == "bad-request"
    assert "int7" in error.message


def test_statistics_are_exact_in_every_delta() -> None:
    node = model_serving(MODEL, VECTOR)
    network, end = network_of(node), decoder("top-k:0.05:int8", MODEL)
    for version in range(1, 4):
        pulled = pull_model(network, end)
        newest = node.published[-1].vector
        np.testing.assert_array_equal(pulled.vector[IS_STATE], newest[IS_STATE])
        node.publish(VECTOR * np.float32(1 + version))
