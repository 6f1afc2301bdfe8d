"""The thread that pulls: one job at a time, called off at once, and not to be killed by any fault of an exchange."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerTimeout
from p2pdl.protocol.pull import PullSettings, VersionKey
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import Puller, PullOrder
from p2pdl.puller.requests import Requester, Sink
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.transport.contract import Frames
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import Float32Vector, Indices
from tests.processes import free_port, server
from tests.protocol.nodes import PlainNode, handler_of, node_serving
from tests.puller.pulling import requester_of
from tests.stores import dense_spec, new_store, publish, random_vector, writing
from tests.transport.worlds import ZmqWorld

WAIT = 20.0
SPEC = dense_spec(2 * SHARD_ELEMENTS + 48)
VECTOR = random_vector(SPEC.size)
SETTINGS = PullSettings(timeout=60, request_timeout=WAIT)


def real_requester() -> Requester:
    return Requester(ZmqClient(), "lab", "beta", MonotonicClock())


def order(
    address: str, sink: Sink, known: VersionKey | None = None, settings: PullSettings = SETTINGS, **how: Any
) -> PullOrder:
    return PullOrder("alpha", address, sink, settings, known=known, **how)


class Pullers:
    """Makes pullers and closes them at the end of the test."""

    def __init__(self) -> None:
        self._made: list[Puller] = []

    def __call__(self, make: Callable[[], Requester] = real_requester, spec: WeightSpec = SPEC) -> Puller:
        self._made.append(Puller(make, spec))
        return self._made[-1]

    def close(self) -> None:
        for puller in self._made:
            puller.close()


@pytest.fixture
def pullers() -> Iterator[Pullers]:
    made = Pullers()
    yield made
    made.close()


class Held:
    """A ZeroMQ server that answers only when it is let."""

    def __init__(self, vector: Float32Vector = VECTOR) -> None:
        self.asked, self.let = threading.Event(), threading.Event()
        self.world = ZmqWorld()
        self.address = self.world.new_address()
        handler = handler_of(node_serving(vector))

        def answer(frames: list[memoryview]) -> Frames:
            self.asked.set()
            self.let.wait(WAIT)
            return handler(frames, 0.0) or []

        self.world.serve(self.address, answer)

    def close(self) -> None:
        self.let.set()
        self.world.close()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.close()


def test_pull_runs_in_the_background_and_is_taken_once(pullers: Pullers, held: Held) -> None:
    puller, inbox = pullers(), Inbox(SPEC)
    assert not puller.is_busy and puller.take() is None
    inbox.expect(None)
    puller.start(order(held.address, inbox.accept))
    assert held.asked.wait(WAIT)
    assert puller.is_busy and puller.take() is None
    with pytest.raises(RuntimeError, match="in progress"):
        puller.start(order(held.address, inbox.accept))
    held.let.set()
    outcome = puller.take(WAIT)
    assert outcome is not None and outcome.error is None
    np.testing.assert_array_equal(inbox.vector, VECTOR)
    assert not puller.is_busy and puller.take() is None


def test_pull_of_the_known_version_is_unchanged(pullers: Pullers, held: Held) -> None:
    held.let.set()
    puller = pullers()
    puller.start(order(held.address, Inbox(SPEC).accept, ("first-life", 1)))
    outcome = puller.take(WAIT)
    assert outcome is not None and outcome.unchanged and outcome.payload_nbytes == 0


def test_call_off_ends_the_pull_and_the_next_one_is_clean(pullers: Pullers, held: Held) -> None:
    puller, inbox = pullers(), Inbox(SPEC)
    puller.start(order(held.address, inbox.accept))
    assert held.asked.wait(WAIT)
    puller.call_off()
    assert not puller.is_busy and puller.take() is None
    puller.call_off()
    held.let.set()
    puller.start(order(held.address, inbox.accept))
    outcome = puller.take(WAIT)
    assert outcome is not None and outcome.error is None
    np.testing.assert_array_equal(inbox.vector, VECTOR)


def test_close_in_mid_pull_ends_the_thread(held: Held) -> None:
    puller = Puller(real_requester, SPEC)
    puller.start(order(held.address, Inbox(SPEC).accept))
    assert held.asked.wait(WAIT)
    puller.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "p2pdl-puller"]


def test_close_without_any_pull_ends_the_thread_and_makes_no_requester() -> None:
    made = []
    puller = Puller(lambda: made.append(1) or real_requester(), SPEC)  # type: ignore[func-returns-value]
    puller.close()
    assert not made


def test_silent_peer_gives_a_timeout(pullers: Pullers) -> None:
    puller, settings = pullers(), PullSettings(request_timeout=0.3)
    puller.start(order(f"127.0.0.1:{free_port()}", Inbox(SPEC).accept, settings=settings))
    outcome = puller.take(WAIT)
    assert outcome is not None and isinstance(outcome.error, PeerTimeout)


def test_sink_that_raises_is_an_internal_failure_and_the_next_pull_works(
    pullers: Pullers, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(offset: int, values: Float32Vector, indices: Indices | None) -> None:
        raise ZeroDivisionError("in the sink")

    held.let.set()
    puller, inbox = pullers(), Inbox(SPEC)
    for _ in range(2):
        with caplog.at_level(logging.ERROR):
            puller.start(order(held.address, fail))
            outcome = puller.take(WAIT)
        assert outcome is not None and outcome.error is not None and outcome.snapshot is None
        assert outcome.error.code == "internal"
        assert outcome.error.message == "alpha: ZeroDivisionError: in the sink"
        assert "in the sink" in caplog.text
        inbox.expect(None)
        puller.start(order(held.address, inbox.accept))
        outcome = puller.take(WAIT)
        assert outcome is not None and outcome.error is None
        np.testing.assert_array_equal(inbox.vector, VECTOR)


def test_requester_that_cannot_be_made_is_an_internal_failure_and_is_tried_again(
    pullers: Pullers, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    def make() -> Requester:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("too many open files")
        return real_requester()

    held.let.set()
    puller = pullers(make)
    with caplog.at_level(logging.CRITICAL):
        puller.start(order(held.address, Inbox(SPEC).accept))
        outcome = puller.take(WAIT)
    assert outcome is not None and outcome.error is not None and outcome.error.code == "internal"
    puller.start(order(held.address, Inbox(SPEC).accept))
    outcome = puller.take(WAIT)
    assert outcome is not None and outcome.error is None


def test_end_to_end_trainer_publishes_and_another_node_pulls_the_same_bits(pullers: Pullers) -> None:
    puller, inbox = pullers(), Inbox(SPEC)
    base = random_vector(SPEC.size, seed=9)
    with new_store() as store, writing(store, SPEC) as writer, server(store) as running:

        def pulled(known: tuple[str, int] | None = None) -> tuple[str, int]:
            inbox.expect(base)
            puller.start(order(running.address, inbox.accept, known))
            outcome = puller.take(WAIT)
            assert outcome is not None
            if outcome.error is not None:
                return outcome.error.code, 0
            assert outcome.snapshot is not None
            return "unchanged" if outcome.unchanged else "pulled", outcome.snapshot.version

        assert pulled() == ("not-ready", 0)
        for version in (1, 2, 3):
            assert publish(writer, VECTOR * version, step=version) == version
            assert pulled() == ("pulled", version)
            np.testing.assert_array_equal(inbox.vector, VECTOR * version - base)
            assert pulled((writer.incarnation, version)) == ("unchanged", version)


def test_end_to_end_peer_killed_and_back_is_pulled_again(pullers: Pullers) -> None:
    puller, inbox, settings = pullers(), Inbox(SPEC), PullSettings(request_timeout=0.5)

    def pulled(address: str) -> str:
        inbox.expect(None)
        puller.start(order(address, inbox.accept, settings=settings))
        outcome = puller.take(WAIT)
        assert outcome is not None
        return outcome.error.code if outcome.error else "pulled"

    with new_store() as store, writing(store, SPEC) as writer:
        publish(writer, VECTOR)
        with server(store) as running:
            address = running.address
            assert pulled(address) == "pulled"
            running.process.kill()
            running.wait()
            assert pulled(address) == "timeout"
        inbox.vector[:] = 0
        with server(store, address=address):
            assert pulled(address) == "pulled"
        np.testing.assert_array_equal(inbox.vector, VECTOR)


def test_end_to_end_another_model_is_named(pullers: Pullers) -> None:
    other = WeightSpec.layout([("dense/kernel", SPEC.variables[0].shape, "float32", False)])
    puller = pullers(spec=other)
    with new_store() as store, writing(store, SPEC) as writer, server(store) as running:
        publish(writer, VECTOR)
        puller.start(order(running.address, Inbox(other).accept))
        outcome = puller.take(WAIT)
        assert outcome is not None and outcome.error is not None
        assert outcome.error.code == "model"
        assert "variable 0 is" in outcome.error.message


def test_end_to_end_another_cluster_is_refused() -> None:
    with new_store() as store, server(store, cluster="other") as running, requester_of() as requester:
        outcome = requester.pull("alpha", running.address, SPEC, SETTINGS, Inbox(SPEC).accept)
        assert outcome.error is not None and outcome.error.code == "cluster"


def test_node_without_weights_says_so_over_zeromq(pullers: Pullers, held: Held) -> None:
    held.let.set()
    handler, address = handler_of(PlainNode()), held.world.new_address()
    held.world.serve(address, lambda frames: handler(frames, 0.0) or [])
    puller = pullers()
    puller.start(order(address, Inbox(SPEC).accept))
    outcome = puller.take(WAIT)
    assert outcome is not None and outcome.error is not None and outcome.error.code == "not-ready"
