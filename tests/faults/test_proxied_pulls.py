"""Pulls over a link with faults: each ends in time with its code, and the next one is as if nothing had been."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from p2pdl.clock import MonotonicClock
from p2pdl.codec.ends import decoder
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import Puller, PullOrder
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.transport.zeromq import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, ZmqClient
from p2pdl.types import Float32Vector, Indices
from tests.faults.hostile import WAIT
from tests.processes import ServerProcess, server, wait_until
from tests.puller.pulling import requester_of
from tests.stores import dense_spec, new_store, publish, random_vector, writing
from tools.faults import HALF_OPEN, FaultProxy, Faults, Way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SHARDS = 6
SPEC = dense_spec(SHARDS * SHARD_ELEMENTS)
MIB = 1 << 20

REQUEST_TIMEOUT = 2.0
TIMEOUT = 4.0
SETTINGS = PullSettings(timeout=TIMEOUT, request_timeout=REQUEST_TIMEOUT, range_shards=1)
PATIENT = PullSettings(timeout=WAIT, request_timeout=WAIT, range_shards=1)
"""For what comes, however busy the machine is."""

GRACE = 10.0
"""Seconds by which a busy machine may be late."""

HEARTBEAT_SECONDS = (HEARTBEAT_MS + HEARTBEAT_TIMEOUT_MS) / 1000
"""Seconds after which a connection over which nothing comes is dropped, at most."""

DAMAGED = Faults(from_target=Way(corrupt_every=300_000))
"""Every shard has a damaged byte, whenever it is sent."""


@dataclass
class Line:
    """A puller's line to a server, with a proxy in between.

    Attributes:
        proxy: The link.
        requester: The puller.
        vector: The version that is served.
        inbox: Where it arrives.
    """

    proxy: FaultProxy
    requester: Requester
    vector: Float32Vector
    inbox: Inbox

    def pull(self, settings: PullSettings = SETTINGS, on_shard: Callable[[int], None] = lambda _: None) -> Outcome:
        self.inbox.vector[:] = 0
        self.inbox.expect(None)

        def accept(offset: int, values: Float32Vector, indices: Indices | None) -> None:
            self.inbox.accept(offset, values, indices)
            on_shard(offset // SHARD_ELEMENTS)

        return self.requester.pull("alpha", self.proxy.address, SPEC, settings, accept)

    def code(self, outcome: Outcome) -> str:
        return outcome.error.code if outcome.error else ""

    def pull_well(self) -> None:
        """Pull, and see to it that every bit comes."""
        outcome = self.pull(PATIENT)
        assert outcome.error is None, f"{outcome.error.code}: {outcome.error.message}"
        np.testing.assert_array_equal(self.inbox.vector, self.vector)


@contextlib.contextmanager
def served() -> Iterator[tuple[ServerProcess, Float32Vector]]:
    """A server, and the version that it serves."""
    vector = random_vector(SPEC.size)
    with new_store() as store, writing(store, SPEC) as writer, server(store) as running:
        publish(writer, vector)
        yield running, vector


@pytest.fixture(scope="module")
def serving() -> Iterator[tuple[ServerProcess, Float32Vector]]:
    """One server for most tests of this file."""
    with served() as made:
        yield made


def sockets() -> int:
    """Sockets that this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def descriptors(pid: int) -> int:
    """Descriptors that another process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def line_to(running: ServerProcess, vector: Float32Vector) -> Iterator[Line]:
    """A line that leaves no thread, no socket and no connection behind."""
    before = threading.active_count(), sockets()
    with FaultProxy(running.address) as proxy:
        with requester_of("beta") as requester:
            yield Line(proxy, requester, vector, Inbox(SPEC))
        proxy.heal()
        assert wait_until(lambda: proxy.counters().open == 0, WAIT)
    assert wait_until(lambda: (threading.active_count(), sockets()) == before, WAIT)


@pytest.fixture
def line(serving: tuple[ServerProcess, Float32Vector]) -> Iterator[Line]:
    with line_to(*serving) as made:
        yield made


def test_link_without_faults_brings_every_bit(line: Line) -> None:
    line.pull_well()
    counters = line.proxy.counters()
    assert counters.from_target.delivered > line.vector.nbytes and counters.from_target.swallowed == 0


def test_slow_peer_is_given_up_at_the_deadline_and_the_next_pull_is_not_disturbed(line: Line) -> None:
    line.proxy.change(Faults(from_target=Way(bandwidth=10_000)))
    outcome = line.pull()
    assert line.code(outcome) == "timeout"
    assert REQUEST_TIMEOUT <= outcome.seconds < REQUEST_TIMEOUT + GRACE
    line.proxy.heal()
    line.pull_well()


def test_peer_that_trickles_is_given_up_when_the_whole_pull_takes_too_long(line: Line) -> None:
    # A shard comes in time, all of them do not.
    line.proxy.change(Faults(from_target=Way(bandwidth=MIB)))
    outcome = line.pull(PullSettings(timeout=TIMEOUT, request_timeout=TIMEOUT, range_shards=1))
    assert line.code(outcome) == "timeout" and outcome.error is not None
    assert "of 6 MiB of the model had come" in outcome.error.message
    assert 0 < outcome.accepted < SHARDS
    assert TIMEOUT <= outcome.seconds < TIMEOUT + GRACE
    line.proxy.heal()
    line.pull_well()


def test_latency_makes_a_pull_longer_and_no_worse(line: Line) -> None:
    line.proxy.change(Faults(Way(latency=0.05), Way(latency=0.05)))
    started = time.monotonic()
    line.pull_well()
    # The handshake of ZeroMQ, the first window of requests, and the others in pairs.
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("reset", [True, False])
def test_connection_cut_in_mid_transfer_ends_the_pull_in_time(line: Line, reset: bool) -> None:
    line.proxy.change(Faults(from_target=Way(cut_after=int(2.5 * MIB)), reset=reset))
    outcome = line.pull()
    # Requests that had not left yet go over the next connection; the one whose reply was cut is lost.
    assert line.code(outcome) == "timeout" and 2 <= outcome.accepted < SHARDS
    assert outcome.seconds < TIMEOUT + GRACE
    assert line.proxy.counters().cut >= 1
    line.proxy.heal()
    line.pull_well()


def faults_after(line: Line, shards: int, faults: Faults) -> Outcome:
    """Pull, with the faults beginning when so many shards have come."""

    def on_shard(number: int) -> None:
        if number == shards - 1:
            line.proxy.change(faults)

    return line.pull(on_shard=on_shard)


@pytest.mark.parametrize(
    "faults",
    [HALF_OPEN, Faults(to_target=Way(is_black_hole=True)), Faults(from_target=Way(is_black_hole=True))],
    ids=["half-open", "requests vanish", "replies vanish"],
)
@pytest.mark.parametrize("shards", [0, 1])
def test_black_hole_ends_the_pull_in_time_and_the_next_one_has_a_connection_of_its_own(
    line: Line, faults: Faults, shards: int
) -> None:
    # Small replies under way may still come.
    if shards:
        outcome = faults_after(line, shards, faults)
        assert outcome.accepted >= shards
    else:
        line.proxy.change(faults)
        outcome = line.pull()
        assert outcome.accepted == 0
    assert line.code(outcome) == "timeout"
    assert REQUEST_TIMEOUT <= outcome.seconds < TIMEOUT + GRACE
    # Back in the same moment; nothing of the old connection gets in the way.
    line.proxy.heal()
    line.pull_well()


@pytest.mark.slow
def test_half_open_connection_that_is_left_alone_is_dropped_by_heartbeats_at_both_ends() -> None:
    # A server of its own: to others, connections of earlier tests may still be open.
    with served() as (running, vector), line_to(running, vector) as line:
        pid = running.process.pid
        line.pull_well()
        connected = descriptors(pid)
        line.proxy.change(HALF_OPEN)
        # Nobody asks for anything; a puller that has dropped its connection makes a new one, which the proxy counts.
        assert wait_until(lambda: line.proxy.counters().accepted >= 2, 4 * HEARTBEAT_SECONDS)
        line.proxy.change(Faults(refuse=True))
        assert wait_until(lambda: descriptors(pid) == connected - 1, 4 * HEARTBEAT_SECONDS)
        line.proxy.heal()
        line.pull_well()


def test_refused_connection_ends_the_pull_in_time_and_is_tried_again(line: Line) -> None:
    line.proxy.change(Faults(refuse=True))
    outcome = line.pull()
    assert line.code(outcome) == "timeout" and outcome.seconds < REQUEST_TIMEOUT + GRACE
    assert line.proxy.counters().refused > 1
    line.proxy.heal()
    line.pull_well()


def test_damaged_byte_costs_one_shard_more_and_the_version_is_right(line: Line) -> None:
    line.proxy.change(Faults(from_target=Way(corrupt_at=MIB // 2)))
    outcome = line.pull(PATIENT)
    assert outcome.error is None and outcome.accepted == SHARDS
    assert outcome.payload_nbytes == line.vector.nbytes + 4 * SHARD_ELEMENTS
    np.testing.assert_array_equal(line.inbox.vector, line.vector)
    assert line.proxy.counters().from_target.corrupted == 1


def test_shard_damaged_twice_is_refused_by_its_digest(line: Line) -> None:
    line.proxy.change(DAMAGED)
    outcome = line.pull(PATIENT)
    assert line.code(outcome) == "digest" and outcome.error is not None
    assert outcome.error.message == "alpha: shard 0 arrived damaged"
    # Nothing that was damaged has got as far as the inbox.
    arrived = line.inbox.vector != 0
    np.testing.assert_array_equal(line.inbox.vector[arrived], line.vector[arrived])
    assert outcome.seconds < WAIT
    line.proxy.heal()
    line.pull_well()


@pytest.mark.parametrize("codec", ["int8", "bfloat16+deflate", "top-k:0.1:int8"])
def test_damage_is_found_in_every_codec(line: Line, codec: str) -> None:
    line.proxy.change(Faults(from_target=Way(corrupt_every=100_000)))
    line.inbox.expect(None)
    outcome = line.requester.pull(
        "alpha", line.proxy.address, SPEC, PATIENT, line.inbox.accept, decoder=decoder(codec, SPEC)
    )
    assert line.code(outcome) == "digest" and outcome.accepted == 0


def test_puller_in_the_background_says_how_each_pull_ended_and_the_trainer_waits_for_none(line: Line) -> None:
    puller = Puller(lambda: Requester(ZmqClient(), "lab", "beta", MonotonicClock()), SPEC)
    longest = 0.0
    outcomes: list[Outcome] = []

    def is_there() -> bool:
        """What a trainer does after a step."""
        nonlocal longest
        started = time.monotonic()
        outcome = puller.take()
        longest = max(longest, time.monotonic() - started)
        outcomes.extend([outcome] if outcome else [])
        return outcome is not None

    with contextlib.closing(puller):
        for faults in (HALF_OPEN, Faults(), DAMAGED, Faults(refuse=True), Faults()):
            line.proxy.change(faults)
            line.inbox.expect(None)
            settings = PATIENT if faults in (Faults(), DAMAGED) else SETTINGS
            puller.start(PullOrder("alpha", line.proxy.address, line.inbox.accept, settings))
            assert wait_until(is_there, WAIT)
    assert [line.code(outcome) for outcome in outcomes] == ["timeout", "", "digest", "timeout", ""]
    np.testing.assert_array_equal(line.inbox.vector, line.vector)
    assert longest < 1.0


@pytest.mark.parametrize("faults", [HALF_OPEN, Faults(from_target=Way(bandwidth=1000.0))], ids=["half-open", "slow"])
def test_pull_over_a_link_with_faults_can_be_called_off_at_any_moment(line: Line, faults: Faults) -> None:
    line.proxy.change(faults)
    puller = Puller(lambda: Requester(ZmqClient(), "lab", "beta", MonotonicClock()), SPEC)
    with contextlib.closing(puller):
        line.inbox.expect(None)
        patient = PullSettings(timeout=600, request_timeout=600)
        puller.start(PullOrder("alpha", line.proxy.address, line.inbox.accept, patient))
        assert wait_until(lambda: line.proxy.counters().open == 1, WAIT)
        started = time.monotonic()
        puller.call_off()
        assert time.monotonic() - started < 0.25 + GRACE
