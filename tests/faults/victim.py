"""A server under attack, and a good client that pulls from it all the while."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from p2pdl.codec.ends import decoder
from p2pdl.errors import PeerError
from p2pdl.protocol.fields import Scalar
from p2pdl.protocol.messages import RangeRequest, StatusReply, StatusRequest
from p2pdl.protocol.pull import FIRST_REQUEST_TIMEOUT, PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector
from tests.faults.hostile import WAIT
from tests.processes import ServerProcess, memory_mib, server, wait_until
from tests.puller.pulling import requester_of
from tests.stores import dense_spec, new_store, publish, random_vector, writing

SHARDS = 4
SPEC = dense_spec(SHARDS * SHARD_ELEMENTS)

PEAK_MIB = 300.0
"""What a server may ever have resident, whatever is done to it."""

DEADLINE = 2 * FIRST_REQUEST_TIMEOUT
"""Seconds within which a good client gets a whole model from a server under attack: those after which a node that
knows nothing of its link yet would give up for the second time. Less than one is usual."""

PATIENCE = PullSettings(timeout=10.0, request_timeout=5.0)
"""A pull that fails is begun again, as nodes do it."""


@dataclass
class Victim:
    """A server process over a store with one version.

    Attributes:
        running: The process.
        vector: The version that it serves.
        incarnation: Of the trainer that published it.
    """

    running: ServerProcess
    vector: Float32Vector
    incarnation: str

    @property
    def address(self) -> str:
        return self.running.address

    @property
    def pid(self) -> int:
        return self.running.process.pid

    def peak_mib(self) -> float:
        return memory_mib(self.pid)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def is_same_process(self) -> bool:
        return self.running.process.poll() is None

    def figures(self) -> dict[str, Scalar]:
        """Its own counters, as `status` gives them; asked for again where an answer is lost."""
        give_up_at = time.monotonic() + WAIT
        with requester_of("observer") as requester:
            while True:
                try:
                    reply, _ = requester.ask(self.address, StatusRequest(), 3.0)
                    assert isinstance(reply, StatusReply)
                    return dict(reply.figures)
                except PeerError:
                    assert time.monotonic() < give_up_at, "the server tells nobody how it is"

    def requests(self) -> int:
        """Requests that it has read."""
        return int(self.figures()["requests"] or 0)

    def whole(self, codec: str) -> RangeRequest:
        """A request for all of the version, which takes no place of an upload."""
        return RangeRequest(self.incarnation, 1, 0, SPEC.size, codec, (), False)


@contextlib.contextmanager
def victim(log: Path | str = "") -> Iterator[Victim]:
    """A server to attack; it must be the same process in the end, within its memory, and serving."""
    vector = random_vector(SPEC.size)
    with new_store() as store, writing(store, SPEC) as writer:
        publish(writer, vector)
        with server(store, log=log) as running:
            assert running.ready == ""
            attacked = Victim(running, vector, writer.incarnation)
            yield attacked
            assert running.process.poll() is None
            assert attacked.peak_mib() <= PEAK_MIB
            with good_client(attacked) as client:
                client.wait_for_one_more()


@dataclass
class GoodClient:
    """What a client that pulls over and over has seen.

    Attributes:
        waits: Seconds from one whole model to the next, the last and unfinished wait included.
        codes: Codes of pulls that failed.
        wrong: Pulls that were accepted and were not the version.
    """

    waits: list[float] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    wrong: int = 0

    def wait_for_one_more(self, longest: float = WAIT) -> None:
        """Wait until a pull that begins after now has brought the whole model."""
        # The one that is under way may have begun before.
        wanted = len(self.waits) + 2
        assert wait_until(lambda: len(self.waits) >= wanted, longest), f"no model came any more: {self.codes[-5:]}"


@contextlib.contextmanager
def good_client(attacked: Victim, codec: str = "float32", deadline: float = DEADLINE) -> Iterator[GoodClient]:
    """Pull without a pause in a thread; whoever uses this fails if the client ever waited for longer than it may."""
    seen = GoodClient()
    stopping = threading.Event()

    def pull() -> None:
        inbox, exact = Inbox(SPEC), codec == "float32"
        last = time.monotonic()
        with requester_of(f"good-{codec}") as requester:
            while not stopping.is_set():
                inbox.expect(None)
                end = decoder(codec, SPEC)
                outcome = requester.pull("alpha", attacked.address, SPEC, PATIENCE, inbox.accept, decoder=end)
                now = time.monotonic()
                if outcome.error is not None:
                    seen.codes.append(outcome.error.code)
                    stopping.wait(0.02)
                    continue
                seen.wrong += exact and not np.array_equal(inbox.vector, attacked.vector)
                seen.waits.append(now - last)
                last = now
            seen.waits.append(time.monotonic() - last)

    thread = threading.Thread(target=pull, name="p2pdl-test-good-client")
    thread.start()
    try:
        yield seen
    finally:
        stopping.set()
        thread.join()
    assert seen.wrong == 0
    assert max(seen.waits) <= deadline, f"waited {max(seen.waits):.1f} s: {seen.codes}"
