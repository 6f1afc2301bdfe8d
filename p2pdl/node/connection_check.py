"""Asks every other node of a file whether it could take part with this one: all at once, and within a few seconds."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from statistics import median

from p2pdl.config.sections import NodeEntry
from p2pdl.node.connection_probe import bind_error, connect, greet, resolve
from p2pdl.node.connection_sighting import Expectation, Sighting, Step
from p2pdl.node.connection_verdict import fails, judge, questions
from p2pdl.node.conversations import Conversations
from p2pdl.node.own_side import own_steps, reached_from_here
from p2pdl.protocol.messages import StatusReply
from p2pdl.transport.contract import ClientTransport
from p2pdl.types import JsonObject, NodeId

RESOLVE_SECONDS = 1.0
CONNECT_SECONDS = 1.5
"""A first packet that was lost is sent again after a second."""

GREETING_SECONDS = 1.0
LIMIT_SECONDS = 5.0
"""For everything, however many nodes there are and whatever they do."""

LOOK_SECONDS = 0.01
"""How soon a node whose greeting has come is asked the first question."""


@dataclass(frozen=True, slots=True)
class Check:
    """What the check of one node came to.

    Attributes:
        name: The node.
        address: Where it was looked for.
        steps: What each step came to, up to the first that failed.
        round_trip: Seconds; None if that was not reached.
        status: What the node said of itself; None if nothing.
    """

    name: NodeId
    address: str
    steps: tuple[Step, ...]
    round_trip: float | None = None
    status: StatusReply | None = None

    @property
    def failed(self) -> Step | None:
        """The step that failed; None if all passed."""
        return next((step for step in self.steps if step.ok is False), None)

    @property
    def result(self) -> str:
        """All of it in two words."""
        return self.failed.result if self.failed else "passed"

    def to_json(self) -> JsonObject:
        """The same as a JSON object."""
        steps = [{key: value for key, value in asdict(step).items() if key != "result"} for step in self.steps]
        status = self.status
        return {
            "name": self.name,
            "address": self.address,
            "passed": self.failed is None,
            "result": self.result,
            "round_trip_seconds": self.round_trip,
            "training": {"state": status.state, "step": status.step, "steps": status.steps} if status else None,
            "steps": steps,
        }


@dataclass(frozen=True, slots=True)
class Connections:
    """What the check of a whole file came to.

    Attributes:
        own: This machine's own side; None for somebody who only looks on.
        peers: The other nodes, in the order of the file.
    """

    own: Check | None
    peers: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if no step has failed."""
        return all(check.failed is None for check in (self.own, *self.peers) if check is not None)

    def to_json(self) -> JsonObject:
        """The same as a JSON object."""
        return {
            "passed": self.passed,
            "own": self.own.to_json() if self.own else None,
            "peers": [peer.to_json() for peer in self.peers],
        }


def check_connections(
    expected: Expectation,
    own: NodeEntry | None,
    others: Sequence[NodeEntry],
    client: ClientTransport,
    key: Step | None = None,
) -> Connections:
    """Look at all nodes; takes `LIMIT_SECONDS` at most, and less than a second if all of them answer.

    Args:
        expected: What a node of the file must be.
        own: The node that runs here; None to look at the others only.
        others: The nodes to look at.
        client: How to ask; stays the caller's.
        key: What is to be said of this node's key; None where it needs none.
    """
    peers = [Sighting(entry.name, entry.address) for entry in others]
    here: Sighting | None = None
    error = bind_error(own.listen) if own is not None else 0
    if own is not None and error == errno.EADDRINUSE:
        here = Sighting(own.name, reached_from_here(own.listen))
    _look_at_all(expected, [*peers, here] if here else peers, client)
    checks = tuple(_check(seen, judge(expected, seen)) for seen in peers)
    if own is None:
        return Connections(None, checks)
    steps = own_steps(expected, own, error, here, key)
    if here is None:
        return Connections(Check(own.name, str(own.listen), tuple(steps)), checks)
    return Connections(_check(here, steps), checks)


def _check(seen: Sighting, steps: Iterable[Step]) -> Check:
    round_trip = median(seen.round_trips) if seen.round_trips else None
    return Check(seen.name, str(seen.address), tuple(steps), round_trip, seen.status)


def _look_at_all(expected: Expectation, sightings: Sequence[Sighting], client: ClientTransport) -> None:
    talks = Conversations(expected.cluster, client, time.monotonic() + LIMIT_SECONDS)
    looked_at: SimpleQueue[Future[Sighting]] = SimpleQueue()
    with ThreadPoolExecutor(max(1, len(sightings)), "p2pdl-check") as threads:
        for seen in sightings:
            threads.submit(_look_from_below, expected, seen).add_done_callback(looked_at.put)
        looking = len(sightings)
        while looking or talks.going_on:
            try:
                seen = looked_at.get(block=not talks.going_on).result()
            except Empty:
                talks.run(LOOK_SECONDS)
                continue
            looking -= 1
            if not fails(expected, seen):
                talks.begin(str(seen.address), questions(expected, seen))


def _look_from_below(expected: Expectation, seen: Sighting) -> Sighting:
    port = seen.address.port
    seen.resolved = resolve(seen.address.host, RESOLVE_SECONDS)
    if not fails(expected, seen):
        # The one that counts comes first: of a name with very many addresses not all are tried.
        seen.attempts = connect(dict.fromkeys([seen.dialled, *seen.resolved.hosts]), port, CONNECT_SECONDS)
    if not fails(expected, seen):
        seen.greeting = greet(seen.dialled, port, GREETING_SECONDS)
    return seen
