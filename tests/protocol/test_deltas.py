"""Versions in a row through a delta codec: copies converge, and whatever is lost heals by whole shards."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest

from p2pdl.codec.delta import ReceivedCopy, SentCopy
from p2pdl.codec.ends import decoder
from p2pdl.errors import PeerTimeout
from p2pdl.protocol.actions import Accept, Complete, Fail
from p2pdl.protocol.messages import RangeReply, Reply, Request
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.types import Float32Vector
from tests.protocol.nodes import (
    CLUSTER,
    MODEL,
    PlainNode,
    Pulled,
    damage_replies,
    model_serving,
    model_vector,
    network_of,
    pull_model,
)

START, TARGET = model_vector(0), model_vector(1)
SHARDS = (slice(0, SHARD_ELEMENTS), slice(SHARD_ELEMENTS, MODEL.size))
IS_STATE = np.zeros(MODEL.size, bool)
for _span in MODEL.state_spans:
    IS_STATE[_span] = True
EVERY_DELTA = pytest.mark.parametrize(
    "codec", ["top-k:0.05", "top-k:0.05:int8", "mean-threshold", "mean-threshold:int8"]
)
WHOLE = 1
"""First byte of a shard that is sent whole."""


class Watched:
    """A node behind a network that notes which shards are sent whole, and loses some.

    Args:
        codec: Of the puller.
        limits: Of the server.
    """

    def __init__(self, codec: str, limits: ServingLimits | None = None) -> None:
        self.node: PlainNode = model_serving(MODEL, START)
        self.network: MemoryNetwork = network_of(self.node)
        self.end = self.new_end(codec)
        self.lost: set[int] = set()
        self.pulled: Pulled
        self._limits = limits
        self._sent: dict[int, bool] = {}
        self.restart()

    def new_end(self, codec: str) -> ReceivedCopy:
        end = decoder(codec, MODEL)
        assert isinstance(end, ReceivedCopy)
        return end

    def restart(self) -> None:
        """A new server, which knows of no copies."""
        self.serving = Serving(CLUSTER, self.node, self._limits)
        damage_replies(self.network, self.node, self._watch, self.serving)

    def pull(self, name: str = "alpha", end: ReceivedCopy | None = None) -> dict[int, bool]:
        """Pull the newest version; returns for each shard that was sent whether it was sent whole."""
        self._sent = {}
        self.pulled = pull_model(self.network, end or self.end, name=name)
        assert isinstance(self.pulled.last, Complete)
        return self._sent

    def pull_in_vain(self) -> None:
        self.pulled = pull_model(self.network, self.end)
        assert isinstance(self.pulled.last, Fail) and isinstance(self.pulled.last.error, PeerTimeout)

    def brought(self) -> set[int]:
        """The trained entries that the last pull brought, whether or not it was completed."""
        entries = np.arange(MODEL.size)
        arrived = [
            each.offset + (entries[: each.values.size] if each.indices is None else each.indices)
            for each in self.pulled.actions
            if isinstance(each, Accept)
        ]
        return set(np.concatenate(arrived).tolist()) - set(np.flatnonzero(IS_STATE).tolist())

    def servers_copy(self) -> Float32Vector:
        copy = self.serving.encoders.get("alpha", self.end.name, MODEL)
        assert isinstance(copy, SentCopy)
        return copy._copy

    def error(self) -> float:
        return float(np.linalg.norm(self.end.vector - self.node.published[-1].vector))

    def _watch(self, request: Request, reply: Reply, payload: list[bytes]) -> tuple[Reply, list[bytes]] | None:
        if isinstance(reply, RangeReply):
            number = reply.offset // SHARD_ELEMENTS
            self._sent[number] = payload[0][0] == WHOLE
            if number in self.lost:
                return None
        return reply, payload


def left_by_top_k(difference: Float32Vector, pulls: int) -> float:
    """The norm of what so many pulls of one vector leave: in each shard all but the greatest entries, `k` a pull."""
    left = 0.0
    for shard in SHARDS:
        trained = np.abs(difference[shard][~IS_STATE[shard]]).astype(np.float64)
        left += (np.sort(trained)[: trained.size - min(trained.size, pulls * ceil(0.05 * trained.size))] ** 2).sum()
    return float(np.sqrt(left))


def test_pulls_of_one_vector_send_its_greatest_differences_first_until_nothing_is_left() -> None:
    watched = Watched("top-k:0.05")
    assert watched.pull() == {0: True, 1: True}
    assert watched.error() == 0.0
    for pulls in range(1, 21):
        watched.node.publish(TARGET)
        assert watched.pull() == {0: False, 1: False}
        assert watched.error() == pytest.approx(left_by_top_k(TARGET - START, pulls), rel=1e-5)
    np.testing.assert_array_equal(watched.end.vector, TARGET)


@EVERY_DELTA
def test_versions_in_a_row_keep_converging(codec: str) -> None:
    watched = Watched(codec)
    assert watched.pull() == {0: True, 1: True}
    watched.node.publish(TARGET)
    errors = [watched.error()]
    for _ in range(10):
        assert watched.pull() == {0: False, 1: False}
        errors.append(watched.error())
        np.testing.assert_array_equal(watched.end.vector[IS_STATE], TARGET[IS_STATE])
        watched.node.publish(TARGET)
    assert all(after < before or after == 0.0 for before, after in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.4 * errors[0]


@EVERY_DELTA
def test_moving_weights_are_followed_at_a_distance_that_does_not_grow(codec: str) -> None:
    watched = Watched(codec)
    watched.pull()
    errors = []
    for version in range(20):
        watched.node.publish(watched.node.published[-1].vector + model_vector(2 + version, 0.01))
        watched.pull()
        errors.append(watched.error())
    # A random walk of 20 steps that nobody follows is this far away.
    unfollowed = float(np.linalg.norm(watched.node.published[-1].vector - START))
    assert errors[-1] < 0.95 * unfollowed
    assert errors[-1] < 1.5 * errors[9]


@EVERY_DELTA
@pytest.mark.parametrize("lost", [{0}, {1}, {0, 1}])
def test_lost_reply_heals_by_whole_shards_where_it_was_lost(codec: str, lost: set[int]) -> None:
    watched = Watched(codec)
    watched.pull()
    watched.node.publish(TARGET)
    watched.lost = lost
    watched.pull_in_vain()
    watched.lost = set()
    assert watched.pull() == {number: number in lost for number in range(2)}
    healed = watched.error()
    watched.node.publish(TARGET)
    assert watched.pull() == {0: False, 1: False}
    # What came whole in values of float32 leaves nothing to send.
    assert watched.error() < healed or healed == 0.0


@EVERY_DELTA
@pytest.mark.parametrize("lost", [{0}, {1}, {0, 1}])
def test_copies_are_equal_after_a_pull_that_failed_and_one_that_did_not(codec: str, lost: set[int]) -> None:
    watched = Watched(codec)
    watched.pull()
    for vector in (TARGET, START, TARGET):
        watched.node.publish(vector)
        watched.lost = lost
        watched.pull_in_vain()
        for number, shard in enumerate(SHARDS):
            same = np.array_equal(watched.end.vector[shard], watched.servers_copy()[shard])
            assert same == (number not in lost), "only what was lost is not known to the puller"
        watched.lost = set()
        watched.pull()
        np.testing.assert_array_equal(watched.end.vector, watched.servers_copy())
        assert [watched.end.digest(number) for number in range(2)] == watched.serving.encoders.get(
            "alpha", codec, MODEL
        )._digests  # type: ignore[attr-defined]


def test_difference_is_made_up_for_after_a_pull_that_failed() -> None:
    watched = Watched("top-k:0.05")
    watched.pull()
    watched.node.publish(TARGET)
    watched.lost = {1}
    watched.pull_in_vain()
    watched.lost = set()
    for _ in range(20):
        watched.node.publish(TARGET)
        watched.pull()
    np.testing.assert_array_equal(watched.end.vector, TARGET)


def test_what_a_failed_pull_brought_is_in_the_copy_and_not_sent_again_before_it_changes() -> None:
    watched = Watched("top-k:0.05")
    watched.pull()
    watched.node.publish(TARGET)
    watched.lost = {1}
    watched.pull_in_vain()
    brought = watched.brought()
    entries = np.array(sorted(brought))
    assert brought and entries.max() < SHARD_ELEMENTS
    np.testing.assert_array_equal(watched.end.vector[entries], TARGET[entries])
    watched.lost = set()
    watched.pull()
    assert not brought & watched.brought()
    changed = TARGET.copy()
    changed[entries] += 100.0
    watched.node.publish(changed)
    watched.pull()
    assert brought <= watched.brought()


@EVERY_DELTA
def test_restarted_server_sends_whole_shards_once(codec: str) -> None:
    watched = Watched(codec)
    watched.pull()
    watched.node.publish(TARGET)
    watched.restart()
    assert watched.pull() == {0: True, 1: True}
    watched.node.publish(TARGET)
    assert watched.pull() == {0: False, 1: False}


@EVERY_DELTA
def test_new_life_of_the_node_starts_the_copies_anew(codec: str) -> None:
    watched = Watched(codec)
    watched.pull()
    watched.node.life = "second-life"
    watched.node.publish(TARGET)
    assert watched.pull() == {0: True, 1: True}
    watched.node.publish(TARGET)
    assert watched.pull() == {0: False, 1: False}


@EVERY_DELTA
def test_restarted_puller_gets_whole_shards_once(codec: str) -> None:
    watched = Watched(codec)
    watched.pull()
    watched.end = watched.new_end(codec)
    watched.node.publish(TARGET)
    assert watched.pull() == {0: True, 1: True}
    watched.node.publish(TARGET)
    assert watched.pull() == {0: False, 1: False}


def test_pullers_have_copies_of_their_own() -> None:
    watched = Watched("top-k:0.05")
    other = watched.new_end("top-k:0.05")
    watched.pull()
    watched.node.publish(TARGET)
    assert watched.pull("gamma", other) == {0: True, 1: True}
    assert watched.pull() == {0: False, 1: False}
    np.testing.assert_array_equal(other.vector, TARGET)
    assert watched.error() == pytest.approx(left_by_top_k(TARGET - START, 1), rel=1e-5)


@pytest.mark.parametrize("limits", [ServingLimits(copies=1), ServingLimits(copies_nbytes=3 * MODEL.nbytes)])
def test_puller_whose_copy_made_room_gets_whole_shards_again(limits: ServingLimits) -> None:
    watched = Watched("top-k:0.05", limits)
    other = watched.new_end("top-k:0.05")
    for _ in range(3):
        for name, end in (("alpha", watched.end), ("gamma", other)):
            assert watched.pull(name, end) == {0: True, 1: True}
            watched.node.publish(TARGET)
    assert watched.pull("gamma", other) == {0: False, 1: False}


def test_server_without_copies_sends_whole_shards_for_ever() -> None:
    watched = Watched("top-k:0.05:int8", ServingLimits(copies=0))
    for version in range(3):
        assert watched.pull() == {0: True, 1: True}
        watched.node.publish(model_vector(version))


def test_change_of_codec_begins_with_whole_shards() -> None:
    watched = Watched("top-k:0.05")
    watched.pull()
    watched.node.publish(TARGET)
    watched.end = watched.new_end("mean-threshold:int8")
    assert watched.pull() == {0: True, 1: True}
    watched.node.publish(TARGET)
    assert watched.pull() == {0: False, 1: False}


@pytest.mark.parametrize("codec", ["top-k:0.05", "mean-threshold:int8"])
def test_link_that_loses_replies_at_random_still_converges(codec: str) -> None:
    node = model_serving(MODEL, START)
    network, end = network_of(node, seed=3), decoder(codec, MODEL)
    assert isinstance(end, ReceivedCopy)
    outcomes = set()
    for _ in range(30):
        node.publish(TARGET)
        network.faults.loss = 0.1
        outcomes.add(type(pull_model(network, end).last))
    assert outcomes == {Complete, Fail}
    assert float(np.linalg.norm(end.vector - TARGET)) < 0.05 * float(np.linalg.norm(START - TARGET))
