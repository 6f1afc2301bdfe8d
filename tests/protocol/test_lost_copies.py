"""Whole shards in place of small deltas over a slow link: they have the time, and are no reason to send still less."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.codec.ends import decoder
from p2pdl.errors import PeerTimeout
from p2pdl.protocol.actions import Complete, Fail
from p2pdl.protocol.deadlines import PULL_BOUNDS, SILENCE_BOUNDS
from p2pdl.protocol.link import LADDER, Link, LinkSettings
from p2pdl.protocol.pull import LONGEST_TIMEOUT, PullSettings
from p2pdl.protocol.serving import ServingLimits
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.transport.memory import MemoryNetwork
from tests.protocol.nodes import ADDRESS, PlainNode, Pulled, network_of, node_serving, run_pull
from tests.stores import dense_spec, random_vector

SHARDS = 8
VECTOR = random_vector(SHARDS * SHARD_ELEMENTS)
SPEC = dense_spec(VECTOR.size)
SMALL = "top-k:0.005:int8"


class SlowLink:
    """A node behind a slow link that keeps one copy, and what a puller has learnt of the link.

    Args:
        mbit: Mbit/s.
        settings: Of the link.
        interval: Seconds within which a pull is wanted.
    """

    def __init__(self, mbit: float, settings: LinkSettings, interval: float = 1e9) -> None:
        self.node: PlainNode = node_serving(VECTOR)
        self.network: MemoryNetwork = network_of(self.node, limits=ServingLimits(copies=1))
        self.network.faults.bandwidth = mbit * 1e6 / 8
        self.link = Link(settings, SHARDS)
        self.end = decoder(self.link.codec, SPEC)
        self.nbytes = 0
        self._interval = interval
        self._seed = 0

    def pull(self) -> Pulled:
        """Pull a version that differs everywhere from the one before, as a node does, and learn from it."""
        self._seed += 1
        self.node.publish(self.node.published[-1].vector + np.float32(0.01) * random_vector(VECTOR.size, self._seed))
        if self.end.name != self.link.codec:
            self.end = decoder(self.link.codec, SPEC)
        started, before = self.network.clock.now(), len(self.network.journal)
        pulled = run_pull(self.network, VECTOR.size, self.link.pull_settings(), decoder=self.end)
        arrived = [e for e in self.network.journal[before:] if (e.event, e.source) == ("delivered", ADDRESS)]
        self.nbytes = sum(entry.nbytes for entry in arrived)
        if isinstance(pulled.last, Complete):
            seconds = pulled.finished - started
            self.link.on_success(seconds, pulled.longest_silence, self.nbytes, self._interval)
        else:
            assert isinstance(pulled.last, Fail) and isinstance(pulled.last.error, PeerTimeout)
            self.link.on_timeout()
        return pulled

    def lose_the_copy(self) -> None:
        """Another puller takes the only room for a copy."""
        self.network.faults.bandwidth, slow = float("inf"), self.network.faults.bandwidth
        assert isinstance(
            run_pull(self.network, VECTOR.size, decoder=decoder(SMALL, SPEC), name="gamma").last, Complete
        )
        self.network.faults.bandwidth = slow


def after_small_deltas(mbit: float) -> tuple[SlowLink, int]:
    """A link that knows nothing but small deltas any more, and the bytes of the whole shards before them."""
    slow = SlowLink(mbit, LinkSettings(SMALL))
    assert isinstance(slow.pull().last, Complete)
    whole = slow.nbytes
    for _ in range(25):
        assert isinstance(slow.pull().last, Complete)
        assert slow.nbytes < whole / 20
    return slow, whole


@pytest.mark.parametrize("mbit", [0.5, 1.0, 8.0, 1000.0])
def test_pull_after_a_lost_copy_ends_in_time_at_the_first_attempt(mbit: float) -> None:
    slow, whole = after_small_deltas(mbit)
    slow.lose_the_copy()
    began = slow.network.clock.now()
    assert isinstance(slow.pull().last, Complete)
    assert slow.nbytes == pytest.approx(whole, rel=0.01)
    assert slow.network.clock.now() - began >= 8e-6 * whole / mbit
    assert isinstance(slow.pull().last, Complete) and slow.nbytes < whole / 20
    assert (slow.link.codec, slow.link.reason) == (SMALL, "as configured")


def test_peer_that_vanishes_is_given_up_as_soon_as_the_largest_reply_could_have_come() -> None:
    for mbit, seconds in ((1.0, 20.0), (1000.0, 1.1 * SILENCE_BOUNDS.floor), (0.01, SILENCE_BOUNDS.ceiling)):
        link = Link(LinkSettings(SMALL), SHARDS)
        nbytes = 25_000
        for _ in range(25):
            link.on_success(8e-6 * nbytes / mbit, 1e-6 * nbytes / mbit, nbytes, 1.0)
        settings = link.pull_settings()
        assert settings.range_shards == (7 if mbit == 1000.0 else 3)
        assert SILENCE_BOUNDS.floor <= settings.request_timeout <= seconds
        assert settings.request_timeout <= settings.timeout <= PULL_BOUNDS.ceiling


def test_peer_that_sends_whole_shards_slower_than_the_link_is_given_up() -> None:
    slow, whole = after_small_deltas(1.0)
    slow.lose_the_copy()
    slow.network.faults.bandwidth /= 4.0
    settings, began = slow.link.pull_settings(), slow.network.clock.now()
    pulled = slow.pull()
    assert isinstance(pulled.last, Fail) and isinstance(pulled.last.error, PeerTimeout)
    # No more than what has come is worth, at half the pace of the link.
    allowed = settings.timeout + settings.byte_seconds * slow.nbytes
    assert pulled.finished - began <= allowed < 2.5 * 8e-6 * whole
    assert "the pull was not done within" in pulled.last.error.message or "no answer" in pulled.last.error.message


def test_each_byte_beyond_the_expected_ones_makes_the_time_longer() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.bandwidth = 2.0**20
    for byte_seconds, ends in ((0.0, 3.5), (0.5 / 2**20, 3.5 + 0.5 * 3.0), (1.1 / 2**20, 0.0)):
        settings = PullSettings(timeout=3.5, range_shards=1, window=4, nbytes=2**20, byte_seconds=byte_seconds)
        began = network.clock.now()
        pulled = run_pull(network, VECTOR.size, settings)
        if ends:
            assert isinstance(pulled.last, Fail)
            assert f"not done within {ends:.3g} s" in pulled.last.error.message
            assert pulled.finished - began == pytest.approx(ends)
        else:
            assert isinstance(pulled.last, Complete)
        network.run_until(network.clock.now() + 10.0)


def test_time_for_further_bytes_has_a_ceiling_but_never_shortens_what_is_configured() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.bandwidth = 2.0**20 / 100
    for timeout, ends in ((150.0, LONGEST_TIMEOUT), (LONGEST_TIMEOUT + 100.0, LONGEST_TIMEOUT + 100.0)):
        settings = PullSettings(timeout=timeout, request_timeout=200.0, byte_seconds=1.0, range_shards=1, window=4)
        began = network.clock.now()
        pulled = run_pull(network, VECTOR.size, settings)
        assert isinstance(pulled.last, Fail)
        assert pulled.finished - began == pytest.approx(ends)
        network.run_until(network.clock.now() + 1000.0)


@pytest.mark.parametrize("codec", ["float32", "int8", SMALL])
def test_configured_timeout_stands_and_an_unknown_link_grants_nothing(codec: str) -> None:
    link = Link(LinkSettings(codec), SHARDS)
    settings = link.pull_settings()
    assert (settings.timeout, settings.request_timeout, settings.byte_seconds) == (
        *(PULL_BOUNDS.initial, SILENCE_BOUNDS.initial),
        0.0,
    )
    link = Link(LinkSettings(codec, timeout=7.0, request_timeout=3.0), SHARDS)
    link.on_success(5.0, 1.0, 10**5, 1.0)
    settings = link.pull_settings()
    assert (settings.timeout, settings.request_timeout, settings.byte_seconds) == (7.0, 3.0, 0.0)


@pytest.mark.parametrize("interval, rung", [(5.0, 3), (1.5, 4), (0.3, 5)])
def test_auto_stays_with_the_first_codec_that_fits_though_its_first_pull_is_whole(interval: float, rung: int) -> None:
    slow = SlowLink(1.0, LinkSettings("auto"), interval)
    codecs = []
    for _ in range(12):
        assert isinstance(slow.pull().last, Complete)
        codecs.append(slow.link.codec)
    assert codecs[rung - 3 :] == [LADDER[rung]] * (15 - rung)
    slow.lose_the_copy()
    for _ in range(3):
        assert isinstance(slow.pull().last, Complete)
        assert slow.link.codec == LADDER[rung]
