"""Questions and pulls over the in-memory network, as their host carries them out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from p2pdl.errors import IncompatiblePeer, PeerError, PeerRefused, PeerTimeout, ProtocolError
from p2pdl.protocol.messages import (
    PROTOCOL_VERSION,
    Envelope,
    RangeRequest,
    SnapshotRequest,
    SpecReply,
    SpecRequest,
    StatusReply,
    StatusRequest,
)
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import Serving
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.server.answer import Answerer, reply_only
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.transport.contract import Frames
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.wire import decode, encode
from tests.protocol.nodes import ADDRESS, CLUSTER, PlainNode, damage_replies, network_of, node_serving
from tests.stores import dense_spec, random_vector
from tests.wire.headers import packed

VECTOR = random_vector(3 * SHARD_ELEMENTS + 32)
SPEC = dense_spec(VECTOR.size)
SETTINGS = PullSettings(timeout=20, request_timeout=4)


def requester_of(network: MemoryNetwork, cluster: str = CLUSTER) -> Requester:
    return Requester(network.client("alpha:1"), cluster, "alpha", network.clock)


def pull(
    network: MemoryNetwork, spec: WeightSpec = SPEC, *, cluster: str = CLUSTER, inbox: Inbox | None = None
) -> Outcome:
    inbox = inbox or Inbox(spec)
    inbox.expect(None)
    return requester_of(network, cluster).pull("beta", ADDRESS, spec, SETTINGS, inbox.accept)


def error_of(outcome: Outcome) -> PeerError:
    assert outcome.snapshot is None and outcome.error is not None and not outcome.unchanged
    return outcome.error


def test_pull_fills_the_inbox_and_counts() -> None:
    network, inbox = network_of(node_serving(VECTOR)), Inbox(SPEC)
    outcome = pull(network, inbox=inbox)
    np.testing.assert_array_equal(inbox.vector, VECTOR)
    assert outcome.error is None and not outcome.unchanged
    assert outcome.snapshot is not None and outcome.snapshot.version == 1
    assert (outcome.peer, outcome.payload_nbytes, outcome.seconds) == ("beta", VECTOR.nbytes, network.clock.now())
    received = [entry.nbytes for entry in network.journal if (entry.event, entry.target) == ("delivered", "alpha:1")]
    assert outcome.nbytes == sum(received) > outcome.payload_nbytes


def test_pull_of_the_known_version_costs_one_reply() -> None:
    network = network_of(node_serving(VECTOR))
    requester, inbox = requester_of(network), Inbox(SPEC)
    outcome = requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept, ("first-life", 1))
    assert outcome.unchanged and outcome.error is None and outcome.payload_nbytes == 0
    assert outcome.snapshot is not None and outcome.snapshot.version == 1
    # The ranges asked for in advance are refused: not one frame of weights is on the way.
    reply = next(entry.nbytes for entry in network.journal if (entry.event, entry.source) == ("sent", ADDRESS))
    assert outcome.nbytes == reply and outcome.seconds == pytest.approx(0.002)
    assert sum(entry.nbytes for entry in network.journal if entry.source == ADDRESS) < 2000


def test_pull_after_an_unchanged_one_is_not_disturbed_by_the_refusals_still_under_way() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    requester, inbox = requester_of(network), Inbox(SPEC)
    known = ("first-life", 1)
    for version in (2, 3):
        assert requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept, known).unchanged
        node.publish(VECTOR * version)
        inbox.expect(None)
        outcome = requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept, known)
        assert outcome.error is None and outcome.snapshot is not None and not outcome.unchanged
        known = (outcome.snapshot.incarnation, outcome.snapshot.version)
        assert known == ("first-life", version)
        np.testing.assert_array_equal(inbox.vector, VECTOR * version)


def test_pull_of_another_model_names_the_first_difference() -> None:
    node = PlainNode(WeightSpec.layout([("dense/kernel", (8, 4), "float32", True)]))
    node.publish(VECTOR[:32])
    error = error_of(pull(network_of(node), WeightSpec.layout([("dense/kernel", (4, 8), "float32", True)])))
    assert isinstance(error, IncompatiblePeer) and error.code == "model"
    expected = "variable 0 is dense/kernel float32[4x8] here and dense/kernel float32[8x4] there"
    assert error.message == f"beta: trains another model: {expected}"
    assert "`model`" in error.remedy


@pytest.mark.parametrize("payload", [[], [b"\xff\xfe"], [b"junk\n" * 1000]])
def test_pull_of_another_model_whose_rows_are_no_rows_still_fails_as_another_model(payload: list[bytes]) -> None:
    node = node_serving(VECTOR[:32])
    network = network_of(node)
    damage_replies(network, node, lambda _, reply, frames: (reply, payload if isinstance(reply, SpecReply) else frames))
    error = error_of(pull(network))
    assert isinstance(error, IncompatiblePeer) and error.code == "model" and error.message.startswith("beta: ")


def test_pull_of_another_model_that_does_not_answer_again_still_fails_as_another_model() -> None:
    node = node_serving(VECTOR[:32])
    network = network_of(node)
    damage_replies(network, node, lambda request, reply, frames: None if request == SpecRequest() else (reply, frames))
    error = error_of(pull(network))
    assert isinstance(error, IncompatiblePeer) and error.code == "model" and SPEC.digest in error.message


def test_pull_from_another_cluster_is_incompatible() -> None:
    error = error_of(pull(network_of(node_serving(VECTOR)), cluster="other"))
    assert isinstance(error, IncompatiblePeer) and error.code == "cluster"


@pytest.mark.parametrize(
    "junk, error_type, text",
    [
        ([], ProtocolError, "beta: sent an empty reply"),
        ([b""], ProtocolError, "beta: the header is not a valid msgpack map"),
        ([b"HTTP/1.1 400 Bad Request"], ProtocolError, "beta: "),
        ([bytes(70_000)], ProtocolError, "beta: a header of 70000 bytes is over the limit"),
        (
            [packed("refusal", protocol=PROTOCOL_VERSION + 1)],
            IncompatiblePeer,
            f"protocol version {PROTOCOL_VERSION + 1}, this node version {PROTOCOL_VERSION}",
        ),
    ],
)
def test_pull_answered_with_junk_fails_at_once(junk: list[bytes], error_type: type[PeerError], text: str) -> None:
    network = network_of(PlainNode())
    network.serve(ADDRESS, lambda frames, now: junk)
    error = error_of(pull(network))
    assert type(error) is error_type and text in error.message
    assert network.clock.now() < 0.1


def test_pull_answered_under_another_id_is_unanswered() -> None:
    network = network_of(PlainNode())
    network.serve(ADDRESS, lambda frames, now: [packed("snapshot-reply", id=77)])
    error = error_of(pull(network))
    assert isinstance(error, PeerTimeout)
    assert network.clock.now() == pytest.approx(SETTINGS.request_timeout)


def test_pull_after_a_failed_one_is_not_disturbed_by_what_was_under_way() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    requester, inbox = requester_of(network), Inbox(SPEC)
    network.faults.paused.add(ADDRESS)
    inbox.expect(None)
    outcome = requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept)
    assert isinstance(outcome.error, PeerTimeout)
    network.faults.paused.clear()
    node.publish(VECTOR + 1)
    outcome = requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept)
    assert outcome.snapshot is not None and outcome.snapshot.version == 2
    np.testing.assert_array_equal(inbox.vector, VECTOR + 1)


def test_pull_after_a_busy_one_is_not_disturbed_by_ranges_that_come_late() -> None:
    node = node_serving(VECTOR)
    network = network_of(node)
    answerer = Answerer(CLUSTER, "beta", Serving(CLUSTER, node))
    late: list[list[memoryview]] = []
    snapshots = []

    def answer(frames: list[memoryview], now: float) -> Frames | None:
        """The ranges that the first pull asks for in advance are read only after the second pull has been granted."""
        is_snapshot = isinstance(decode(frames[0]).message, SnapshotRequest)
        if is_snapshot:
            snapshots.append(now)
        elif len(snapshots) == 1:
            late.append(frames)
            return None
        reply = answerer(frames, now).frames
        while is_snapshot and len(snapshots) == 2 and late:
            answerer(late.pop(0), now)
        return reply

    # Another node has begun a pull, and ends it between the two.
    other, last = SnapshotRequest(SPEC.digest), RangeRequest("", 1, 0, SHARD_ELEMENTS, "float32", (), True)
    answerer([memoryview(encode(Envelope(1, CLUSTER, "other", other)))], 0.0)
    network.serve(ADDRESS, answer)
    requester, inbox = requester_of(network), Inbox(SPEC)
    inbox.expect(None)
    refused = requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept)
    assert error_of(refused).code == "busy"
    network.run_until(network.clock.now() + 0.1)
    assert len(late) == SETTINGS.window
    answerer([memoryview(encode(Envelope(2, CLUSTER, "other", last)))], network.clock.now())
    outcome = requester.pull("beta", ADDRESS, SPEC, SETTINGS, inbox.accept)
    assert outcome.error is None and not late
    np.testing.assert_array_equal(inbox.vector, VECTOR)


def test_pull_called_off_ends_soon_and_frees_the_connection() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.paused.add(ADDRESS)
    requester = requester_of(network)
    outcome = requester.pull(
        "beta", ADDRESS, SPEC, SETTINGS, Inbox(SPEC).accept, called_off=lambda: network.clock.now() > 1
    )
    assert error_of(outcome).code == "called-off"
    assert 1 < network.clock.now() < 1.5


def test_two_nodes_pull_from_each_other_at_once() -> None:
    network = MemoryNetwork(network_of(PlainNode()).clock)
    nodes = {"a:1": node_serving(VECTOR), "b:1": node_serving(VECTOR + 1)}
    for address, node in nodes.items():
        network.serve(address, reply_only(Answerer(CLUSTER, address[0], Serving(CLUSTER, node))))
    for own, other in (("a:1", "b:1"), ("b:1", "a:1")):
        inbox = Inbox(SPEC)
        inbox.expect(nodes[own].published[0].vector)
        requester = Requester(network.client(own), CLUSTER, own[0], network.clock)
        assert requester.pull(other[0], other, SPEC, SETTINGS, inbox.accept).error is None
        difference = nodes[other].published[0].vector - nodes[own].published[0].vector
        np.testing.assert_array_equal(inbox.vector, difference)


def test_ask_gives_reply_and_payload() -> None:
    node = node_serving(VECTOR)
    requester = requester_of(network_of(node))
    reply, frames = requester.ask(ADDRESS, SpecRequest(), 5.0)
    assert reply == SpecReply(SPEC.digest)
    assert b"".join(frames) == node.spec_rows()
    assert isinstance(requester.ask(ADDRESS, StatusRequest(), 5.0)[0], StatusReply)


def silent(network: MemoryNetwork) -> None:
    network.stop(ADDRESS)


def junk(network: MemoryNetwork) -> None:
    network.serve(ADDRESS, lambda frames, now: [b"junk"])


def no_reply_at_all(network: MemoryNetwork) -> None:
    network.serve(ADDRESS, lambda frames, now: frames)


@pytest.mark.parametrize(
    "fault, error_type, code, text",
    [
        (silent, PeerTimeout, "timeout", "beta:1: no answer within 5 s"),
        (junk, ProtocolError, "protocol-error", "beta:1: the header is not a valid"),
        (no_reply_at_all, ProtocolError, "protocol-error", "beta:1: answered with a SnapshotRequest"),
        (lambda network: None, PeerRefused, "model", "beta:1: refused: the model's digest is"),
    ],
)
def test_ask_that_fails_raises_with_address_and_code(
    fault: Callable[[MemoryNetwork], None], error_type: type[PeerError], code: str, text: str
) -> None:
    network = network_of(node_serving(VECTOR))
    requester = requester_of(network)
    fault(network)
    with pytest.raises(error_type) as caught:
        requester.ask(ADDRESS, SnapshotRequest("x"), 5.0)
    assert type(caught.value) is error_type and caught.value.code == code
    assert caught.value.message.startswith(text)


def test_ask_all_waits_once_for_all_and_says_for_each_what_came() -> None:
    network = network_of(node_serving(VECTOR))
    network.serve("junk:1", lambda frames, now: [b"junk"])
    network.serve("other:1", reply_only(Answerer("other", "other", Serving("other", PlainNode()))))
    answers = requester_of(network).ask_all([ADDRESS, "silent:1", "junk:1", "other:1"], StatusRequest(), 3.0)
    assert list(answers) != [] and set(answers) == {ADDRESS, "silent:1", "junk:1", "other:1"}
    good = answers[ADDRESS]
    assert not isinstance(good, PeerError) and isinstance(good[0], StatusReply)
    assert isinstance(answers["silent:1"], PeerTimeout)
    assert isinstance(answers["junk:1"], ProtocolError)
    assert isinstance(answers["other:1"], PeerRefused)
    assert network.clock.now() == pytest.approx(3.0)
    assert requester_of(network).ask_all([], StatusRequest(), 3.0) == {}
