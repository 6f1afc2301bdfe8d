"""Server processes that are stopped, killed and replaced while others pull from them, over real sockets."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.store.writer import StoreWriter
from p2pdl.transport.zeromq import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS
from p2pdl.types import Float32Vector, Indices
from tests.faults.hostile import WAIT
from tests.processes import ServerProcess, is_stopped, server, wait_until
from tests.puller.pulling import requester_of, status_of
from tests.stores import dense_spec, new_store, publish, random_vector, writing
from tools.faults import FaultProxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SHARDS = 8
SPEC = dense_spec(SHARDS * SHARD_ELEMENTS)
VECTOR = random_vector(SPEC.size)

IMPATIENT = PullSettings(timeout=3.0, request_timeout=1.0, range_shards=1)
PATIENT = PullSettings(timeout=WAIT, request_timeout=WAIT, range_shards=1)
GRACE = 10.0
HEARTBEAT_SECONDS = (HEARTBEAT_MS + HEARTBEAT_TIMEOUT_MS) / 1000


@dataclass
class Lab:
    """A store with a version, and who pulls from its servers.

    Attributes:
        store: Its descriptor.
        writer: Its trainer's end.
        requester: Pulls over one connection.
        inbox: Where weights arrive.
    """

    store: int
    writer: StoreWriter
    requester: Requester
    inbox: Inbox

    def pull(self, address: str, settings: PullSettings, on_first: Callable[[], object] = lambda: None) -> Outcome:
        """Pull; `on_first` is called when the first shard has come."""
        self.inbox.expect(None)
        calls = [on_first]

        def accept(offset: int, values: Float32Vector, indices: Indices | None) -> None:
            self.inbox.accept(offset, values, indices)
            while calls:
                calls.pop()()

        return self.requester.pull("alpha", address, SPEC, settings, accept)

    def is_pulled(self, address: str) -> bool:
        """Whether a pull brings the version that was published, bit by bit."""
        outcome = self.pull(address, PATIENT)
        if outcome.error is not None or outcome.snapshot is None:
            return False
        assert (outcome.snapshot.version, outcome.snapshot.incarnation) == (1, self.writer.incarnation)
        np.testing.assert_array_equal(self.inbox.vector, VECTOR)
        return True


@pytest.fixture
def lab() -> Iterator[Lab]:
    with new_store() as store, writing(store, SPEC) as writer, requester_of("beta") as requester:
        publish(writer, VECTOR)
        yield Lab(store, writer, requester, Inbox(SPEC))


def stop(running: ServerProcess) -> None:
    """Stop a process, and wait until the system says that it is stopped."""
    os.kill(running.process.pid, signal.SIGSTOP)
    assert wait_until(lambda: is_stopped(running.process.pid), WAIT)


def test_stopped_server_is_given_up_in_time_and_is_back_as_soon_as_it_goes_on(lab: Lab) -> None:
    with server(lab.store) as running:
        assert lab.is_pulled(running.address)
        stop(running)
        for _ in range(3):
            outcome = lab.pull(running.address, IMPATIENT)
            assert outcome.error is not None and outcome.error.code == "timeout" and outcome.accepted == 0
            assert IMPATIENT.request_timeout <= outcome.seconds < IMPATIENT.request_timeout + GRACE
        os.kill(running.process.pid, signal.SIGCONT)
        assert lab.is_pulled(running.address)
        assert running.process.poll() is None


def test_server_stopped_in_mid_pull_ends_that_pull_and_no_other(lab: Lab) -> None:
    with server(lab.store) as running:
        outcome = lab.pull(running.address, IMPATIENT, lambda: stop(running))
        assert outcome.error is not None and outcome.error.code == "timeout" and outcome.accepted >= 1
        assert outcome.seconds < IMPATIENT.timeout + GRACE
        os.kill(running.process.pid, signal.SIGCONT)
        assert lab.is_pulled(running.address)


def test_connection_to_a_stopped_server_is_dropped_by_heartbeats_and_made_again_when_it_goes_on(lab: Lab) -> None:
    with server(lab.store) as running, FaultProxy(running.address) as proxy:
        assert lab.is_pulled(proxy.address)
        stop(running)
        # Nobody asks for anything; a puller that has dropped its connection makes a new one, which the proxy counts.
        assert wait_until(lambda: proxy.counters().accepted >= 2, 4 * HEARTBEAT_SECONDS)
        os.kill(running.process.pid, signal.SIGCONT)
        assert lab.is_pulled(proxy.address)


def test_server_killed_in_mid_pull_and_started_anew_over_the_same_store_serves_the_same_version(lab: Lab) -> None:
    address = ""
    for _ in range(3):
        with server(lab.store, address=address) as running:
            address = running.address
            assert lab.is_pulled(address)
            outcome = lab.pull(address, IMPATIENT, running.process.kill)
            assert running.wait() == -signal.SIGKILL
            assert outcome.error is not None and outcome.error.code == "timeout" and outcome.accepted >= 1
            assert outcome.seconds < IMPATIENT.timeout + GRACE
    with server(lab.store, address=address):
        assert lab.is_pulled(address)
        assert status_of(address).figures["server_starts"] == 4


def test_server_killed_while_readers_hold_its_leases_leaves_none_to_the_next_one(lab: Lab) -> None:
    with server(lab.store) as running:
        outcome = lab.pull(running.address, IMPATIENT, running.process.kill)
        assert outcome.error is not None
    with server(lab.store, address=running.address) as again:
        # Five slots: a lease that nobody gave back would soon leave the trainer none.
        for step in range(2, 12):
            publish(lab.writer, VECTOR + step, step=step)
        outcome = lab.pull(again.address, PATIENT)
        assert outcome.error is None and outcome.snapshot is not None and outcome.snapshot.version == 11
        np.testing.assert_array_equal(lab.inbox.vector, VECTOR + 11)
