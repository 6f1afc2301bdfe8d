"""A whole pull over the in-memory network: bit-identical, or refused for the right reason; within window and time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.errors import IncompatiblePeer, PeerError, PeerRefused, PeerTimeout, ProtocolError, RejectedWeights
from p2pdl.protocol.actions import Accept, Begin, Complete, Fail, Send, Unchanged
from p2pdl.protocol.messages import RangeReply, RangeRequest, Refusal, Reply, Request, SnapshotReply, SpecReply
from p2pdl.protocol.pull import ATTEMPTS, PullSettings
from p2pdl.spec import SHARD_ELEMENTS, shard_digest
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.types import Float32Vector
from tests.protocol.nodes import (
    ADDRESS,
    PlainNode,
    Pulled,
    damage_replies,
    network_of,
    node_serving,
    run_pull,
)
from tests.stores import random_vector

EDGES = [1, 15, SHARD_ELEMENTS - 1, SHARD_ELEMENTS, SHARD_ELEMENTS + 1, 4 * SHARD_ELEMENTS, 4 * SHARD_ELEMENTS + 777]
VECTOR = random_vector(4 * SHARD_ELEMENTS + 777)
"""Five shards, of which the last is short."""

Payload = list[bytes]


def error_of(pulled: Pulled) -> PeerError:
    assert isinstance(pulled.last, Fail)
    return pulled.last.error


def most_in_flight(network: MemoryNetwork, client: str) -> int:
    """The largest number of requests that waited for their replies at one moment."""
    flying = most = 0
    for entry in network.journal:
        if (entry.event, entry.source) == ("sent", client):
            flying += 1
        elif (entry.event, entry.target) == ("delivered", client):
            flying -= 1
        most = max(most, flying)
    return most


@pytest.mark.parametrize("range_shards", [1, 3, 4])
@pytest.mark.parametrize("size", EDGES)
def test_pull_any_size_is_bit_identical(size: int, range_shards: int) -> None:
    node = node_serving(VECTOR[:size])
    pulled = run_pull(network_of(node), size, PullSettings(range_shards=range_shards, window=4))
    assert isinstance(pulled.last, Complete)
    np.testing.assert_array_equal(pulled.vector.view(np.uint32), VECTOR[:size].view(np.uint32))
    assert len(pulled.requests()) == 1 + -(-size // (range_shards * SHARD_ELEMENTS))


@settings(max_examples=40)
@given(
    size=st.integers(1, VECTOR.size), range_shards=st.integers(1, 4), window=st.integers(1, 16), seed=st.integers(0, 9)
)
def test_pull_any_settings_is_bit_identical_within_its_window(
    size: int, range_shards: int, window: int, seed: int
) -> None:
    network = network_of(node_serving(VECTOR[:size]), seed=seed)
    network.faults.delay = (0.001, 0.5)
    pulled = run_pull(network, size, PullSettings(range_shards=range_shards, window=window))
    assert isinstance(pulled.last, Complete)
    np.testing.assert_array_equal(pulled.vector.view(np.uint32), VECTOR[:size].view(np.uint32))
    ranges = [request for request in pulled.requests() if isinstance(request, RangeRequest)]
    assert [request.offset for request in ranges] == list(range(0, size, range_shards * SHARD_ELEMENTS))
    assert sum(request.length for request in ranges) == size
    # The snapshot request flies beside the first window.
    assert most_in_flight(network, "alpha") == 1 + min(window, len(ranges))
    # 1 is the id of the snapshot request: the version that it is answered with.
    named = [("", 1)] * min(window, len(ranges)) + [("first-life", 1)] * max(0, len(ranges) - window)
    assert [(request.incarnation, request.version) for request in ranges] == named
    assert [request.last for request in ranges] == [False] * (len(ranges) - 1) + [True]


def test_pull_tells_what_it_got_in_order() -> None:
    node = node_serving(VECTOR)
    pulled = run_pull(network_of(node), VECTOR.size)
    [begin] = [action for action in pulled.actions if isinstance(action, Begin)]
    complete = pulled.last
    assert isinstance(complete, Complete)
    assert pulled.actions.index(begin) == 1 + PullSettings(range_shards=1, window=4).window
    info = node.published[0].info
    reply = complete.snapshot
    assert reply == begin.snapshot
    assert (reply.version, reply.step, reply.samples, reply.loss, reply.final, reply.digest, reply.size) == (
        *(info.version, info.step, info.samples, info.loss, info.final, info.digest),
        VECTOR.size,
    )
    offsets = [action.offset for action in pulled.actions if isinstance(action, Accept)]
    assert offsets == list(range(0, VECTOR.size, SHARD_ELEMENTS))


def test_pull_of_the_known_version_transfers_nothing() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    pulled = run_pull(network, VECTOR.size, known=("first-life", 1))
    assert [type(action) for action in pulled.actions] == [Send] * (
        1 + PullSettings(range_shards=1, window=4).window
    ) + [Unchanged]
    network.run_until(network.clock.now() + 1.0)
    replies = [entry for entry in network.journal if (entry.event, entry.source) == ("sent", ADDRESS)]
    assert len(replies) == 1 + PullSettings(range_shards=1, window=4).window
    assert sum(entry.nbytes for entry in replies) < 2000
    assert isinstance(pulled.last, Unchanged) and pulled.last.snapshot.version == 1
    assert isinstance(run_pull(network, VECTOR.size, known=("other-life", 1)).last, Complete)
    node.publish(VECTOR)
    assert isinstance(run_pull(network, VECTOR.size, known=("first-life", 1)).last, Complete)


def test_pull_of_a_version_older_than_the_known_one_brings_nothing() -> None:
    network = network_of(node_serving(VECTOR))
    pulled = run_pull(network, VECTOR.size, known=("first-life", 2))
    assert isinstance(pulled.last, Unchanged) and pulled.last.snapshot.version == 1
    assert not any(isinstance(action, Accept) for action in pulled.actions)
    # Another life counts anew, whatever the version.
    assert isinstance(run_pull(network, VECTOR.size, known=("earlier-life", 2)).last, Complete)


def test_pull_version_is_one_version_while_others_are_published() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)

    def publish_more() -> None:
        node.publish(VECTOR + len(node.published))
        network.at(network.clock.now() + 0.002, publish_more)

    network.at(0.0, publish_more)
    for _ in range(3):
        pulled = run_pull(network, VECTOR.size, PullSettings(window=1, range_shards=1))
        assert isinstance(pulled.last, Complete)
        version = pulled.last.snapshot.version
        np.testing.assert_array_equal(pulled.vector, node.published[version - 1].vector)
    assert len(node.published) > 10


@pytest.mark.parametrize("damaged", [1, 3, 5])
def test_shard_damaged_once_is_asked_for_again(damaged: int) -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    count = 0

    def damage(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        nonlocal count
        if isinstance(reply, RangeReply):
            count += 1
            if count == damaged:
                return reply, [flipped(payload[0]), *payload[1:]]
        return reply, payload

    requests = damage_replies(network, node, damage)
    pulled = run_pull(network, VECTOR.size)
    assert isinstance(pulled.last, Complete)
    np.testing.assert_array_equal(pulled.vector, VECTOR)
    ranges = [request for request in requests if isinstance(request, RangeRequest)]
    again = ranges[damaged - 1].offset
    assert [request.offset for request in ranges].count(again) == ATTEMPTS
    assert len(ranges) == 6


def flipped(frame: bytes, place: int = 1001) -> bytes:
    changed = bytearray(frame)
    changed[place % len(frame)] ^= 1
    return bytes(changed)


def test_shard_damaged_every_time_is_rejected_after_its_attempts() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)

    def damage(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        if isinstance(request, RangeRequest) and request.offset == 2 * SHARD_ELEMENTS:
            return reply, [flipped(payload[0])]
        return reply, payload

    requests = damage_replies(network, node, damage)
    pulled = run_pull(network, VECTOR.size)
    error = error_of(pulled)
    assert isinstance(error, RejectedWeights) and error.code == "digest"
    assert error.message == "beta: shard 2 arrived damaged"
    assert sum(isinstance(r, RangeRequest) and r.offset == 2 * SHARD_ELEMENTS for r in requests) == ATTEMPTS
    assert np.isnan(pulled.vector[2 * SHARD_ELEMENTS : 3 * SHARD_ELEMENTS]).all()


def test_link_that_corrupts_never_leads_to_a_wrong_vector() -> None:
    outcomes = set()
    for seed in range(12):
        network = network_of(node_serving(VECTOR), seed=seed)
        network.faults.corruption = 0.06
        pulled = run_pull_tolerantly(network)
        outcomes.add(type(pulled.last))
        if isinstance(pulled.last, Complete):
            np.testing.assert_array_equal(pulled.vector, VECTOR)
    assert Complete in outcomes


def run_pull_tolerantly(network: MemoryNetwork) -> Pulled:
    """A pull that a damaged header ends at once, as its host would."""
    try:
        return run_pull(network, VECTOR.size, PullSettings(request_timeout=1.0, range_shards=1, window=4))
    except (ProtocolError, IncompatiblePeer) as error:
        return Pulled(np.empty(0, np.float32), [Fail(error)], network.clock.now())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, SHARD_ELEMENTS, VECTOR.size - 1])
def test_weights_not_finite_are_rejected(value: float, place: int) -> None:
    vector = VECTOR.copy()
    vector[place] = value
    pulled = run_pull(network_of(node_serving(vector)), vector.size)
    error = error_of(pulled)
    assert isinstance(error, RejectedWeights) and error.code == "not-finite"
    assert "beta: its weights are not finite" in error.message
    assert np.isnan(pulled.vector[place])


def test_weights_huge_but_finite_are_for_the_merge_to_judge() -> None:
    vector = np.full(100, 3e38, np.float32)
    pulled = run_pull(network_of(node_serving(vector)), vector.size)
    assert isinstance(pulled.last, Complete)


def test_size_of_another_model_is_incompatible() -> None:
    network = network_of(node_serving(VECTOR[:32]))
    pulled = run_pull(network, 48, spec=node_serving(VECTOR[:32]).spec_digest())
    error = error_of(pulled)
    assert isinstance(error, IncompatiblePeer) and error.code == "model"
    assert "beta: serves 32 elements, this model has 48" in error.message


def test_spec_of_another_model_is_incompatible() -> None:
    error = error_of(run_pull(network_of(node_serving(VECTOR[:32])), 32, spec="0" * 32))
    assert isinstance(error, IncompatiblePeer) and error.code == "model"
    assert "0" * 32 in error.message


def test_cluster_of_another_name_is_incompatible() -> None:
    error = error_of(run_pull(network_of(node_serving(VECTOR[:32]), cluster="other"), 32))
    assert isinstance(error, IncompatiblePeer) and error.code == "cluster"
    assert "this is cluster 'other', not 'lab'" in error.message


def test_node_without_weights_is_not_ready() -> None:
    error = error_of(run_pull(network_of(PlainNode()), 32))
    assert isinstance(error, PeerRefused) and error.code == "not-ready"


def test_version_gone_in_mid_pull_ends_it() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)

    def live_again() -> None:
        node.life = "second-life"

    network.at(0.0055, live_again)
    pulled = run_pull(network, VECTOR.size, PullSettings(window=1, range_shards=1))
    error = error_of(pulled)
    assert isinstance(error, PeerRefused) and error.code == "version-gone"
    assert any(isinstance(action, Accept) for action in pulled.actions)


def test_silent_peer_ends_the_pull_after_the_request_timeout() -> None:
    network = network_of(node_serving(VECTOR))
    network.stop(ADDRESS)
    pulled = run_pull(network, VECTOR.size, PullSettings(timeout=60, request_timeout=3, range_shards=1, window=4))
    error = error_of(pulled)
    assert isinstance(error, PeerTimeout) and error.code == "timeout"
    assert "beta: no answer for 3 s" in error.message
    assert pulled.finished == pytest.approx(3.0)


def test_peer_that_falls_silent_in_mid_pull_ends_it_after_the_request_timeout() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.delay = (0.1, 0.1)
    network.at(0.45, lambda: network.stop(ADDRESS))
    pulled = run_pull(network, VECTOR.size, PullSettings(timeout=60, request_timeout=3, window=1, range_shards=1))
    assert isinstance(error_of(pulled), PeerTimeout)
    assert pulled.finished == pytest.approx(0.4 + 3.0)


def test_slow_peer_ends_the_pull_after_the_whole_timeout() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.bandwidth = 2**20 / 2.0
    pulled = run_pull(network, VECTOR.size, PullSettings(timeout=7, request_timeout=3, range_shards=1, window=4))
    error = error_of(pulled)
    assert isinstance(error, PeerTimeout)
    assert "not done within 7 s (3 of 5 MiB of the model had come)" in error.message
    assert "gossip.timeout" in error.remedy and "compress.codec" in error.remedy
    assert pulled.finished == pytest.approx(7.0)


def test_paused_peer_that_goes_on_in_time_completes_the_pull() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.paused.add(ADDRESS)
    network.at(2.0, network.faults.paused.clear)
    pulled = run_pull(network, VECTOR.size, PullSettings(request_timeout=3, range_shards=1, window=4))
    assert isinstance(pulled.last, Complete)
    assert 2.0 < pulled.finished < 2.2


Lie = tuple[type[PeerError], str, str]
WRONG_RANGES = {
    "other version": lambda reply, payload: (replace(reply, version=reply.version + 1), payload),
    "other offset": lambda reply, payload: (replace(reply, offset=reply.offset + SHARD_ELEMENTS), payload),
    "digest too few": lambda reply, payload: (replace(reply, digests=()), payload),
    "digest too many": lambda reply, payload: (replace(reply, digests=reply.digests * 2), payload),
}
WRONG_COUNTS = {
    "no frame": lambda reply, payload: (reply, []),
    "one frame more": lambda reply, payload: (reply, [*payload, b""]),
}
WRONG_FRAMES = {
    "frame empty": lambda reply, payload: (reply, [b""]),
    "frame short": lambda reply, payload: (reply, [payload[0][:-1]]),
    "frame long": lambda reply, payload: (reply, [payload[0] + b"0"]),
    "frames joined": lambda reply, payload: (reply, [payload[0] * 2]),
}
WRONG_TYPES = {
    "snapshot": lambda reply, payload: (SnapshotReply("x", 1, 1, 1, None, False, 1, 1, 0.0), payload),
    "spec": lambda reply, payload: (SpecReply("x"), payload),
    "request": lambda reply, payload: (RangeRequest("x", 1, 0, 1, "float32", (), False), payload),
}


@pytest.mark.parametrize(
    "lie, expected",
    [
        *((lie, (ProtocolError, "protocol-error", "for another range than asked")) for lie in WRONG_RANGES),
        *((lie, (RejectedWeights, "length", "frames, not 1")) for lie in WRONG_COUNTS),
        *((lie, (RejectedWeights, "digest", "shard 0 arrived damaged")) for lie in WRONG_FRAMES),
        *((lie, (ProtocolError, "protocol-error", "answered with a")) for lie in WRONG_TYPES),
    ],
)
def test_range_answered_wrongly_ends_the_pull(lie: str, expected: Lie) -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    change = (WRONG_RANGES | WRONG_COUNTS | WRONG_FRAMES | WRONG_TYPES)[lie]
    damage_replies(
        network,
        node,
        lambda _, reply, payload: change(reply, payload) if type(reply) is RangeReply else (reply, payload),
    )
    pulled = run_pull(network, VECTOR.size)
    error = error_of(pulled)
    error_type, code, text = expected
    assert type(error) is error_type and error.code == code
    assert error.message.startswith("beta: ") and text in error.message
    assert not any(isinstance(action, Accept) for action in pulled.actions)


@pytest.mark.parametrize("lie", WRONG_FRAMES)
def test_frame_of_another_length_with_its_own_digest_is_rejected_at_once(lie: str) -> None:
    node = node_serving(VECTOR)
    network = network_of(node)

    def lengthen(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        if not isinstance(reply, RangeReply):
            return reply, payload
        _, [frame] = WRONG_FRAMES[lie](reply, payload)
        return replace(reply, digests=(xxhash.xxh3_64_intdigest(frame),)), [frame]

    requests = damage_replies(network, node, lengthen)
    pulled = run_pull(network, VECTOR.size)
    error = error_of(pulled)
    assert isinstance(error, RejectedWeights) and error.code == "length"
    assert error.message.startswith("beta: ") and "bytes, not as 1048576" in error.message
    assert not any(isinstance(action, Accept) for action in pulled.actions)
    offsets = [request.offset for request in requests if isinstance(request, RangeRequest)]
    assert len(offsets) == len(set(offsets))


def test_snapshot_answered_with_another_reply_ends_the_pull() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    damage_replies(network, node, lambda request, reply, payload: (RangeReply(1, 0, (), ()), []))
    error = error_of(run_pull(network, VECTOR.size))
    assert isinstance(error, ProtocolError) and "answered with a RangeReply" in error.message


def test_shards_of_another_vector_with_right_digests_are_not_the_version() -> None:
    node, other = node_serving(VECTOR), VECTOR[:SHARD_ELEMENTS] + 1
    network = network_of(node)

    def swap(request: Request, reply: Reply, payload: Payload) -> tuple[Reply, Payload]:
        if isinstance(reply, RangeReply) and reply.offset == 0:
            return replace(reply, digests=(shard_digest(other),)), [other.tobytes()]
        return reply, payload

    damage_replies(network, node, swap)
    error = error_of(run_pull(network, VECTOR.size))
    assert isinstance(error, RejectedWeights) and error.code == "digest"
    assert "the shards are not those of version 1" in error.message


@pytest.mark.parametrize("code", ["internal", "bad-request", "of-the-future"])
def test_refusal_ends_the_pull_under_its_own_code(code: str) -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    damage_replies(network, node, lambda request, reply, payload: (Refusal(code, "because"), []))
    error = error_of(run_pull(network, VECTOR.size))
    assert type(error) is PeerRefused and error.code == code
    assert error.message == "beta: refused: because"


def test_peer_that_answers_only_the_snapshot_is_silent() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    damage_replies(network, node, lambda _, reply, payload: None if type(reply) is RangeReply else (reply, payload))
    pulled = run_pull(network, VECTOR.size, PullSettings(request_timeout=2, range_shards=1, window=4))
    assert isinstance(error_of(pulled), PeerTimeout)
    assert [type(action) for action in pulled.actions] == [Send] * (
        1 + PullSettings(range_shards=1, window=4).window
    ) + [Begin, Fail]


@pytest.mark.parametrize("bad", [{"range_shards": 0}, {"range_shards": 17}, {"window": 0}])
def test_settings_out_of_bounds_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="range_shards must be 1 to 16 and window at least 1"):
        PullSettings(**bad)


def test_vector_type_is_float32() -> None:
    vector: Float32Vector = run_pull(network_of(node_serving(VECTOR[:9])), 9).vector
    assert vector.dtype == np.float32
