"""The meetings of a run: waiting at the start for nodes that are starting too, and at the end for the final merge."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from p2pdl.clock import Clock
from p2pdl.errors import PeerError, RejectedWeights
from p2pdl.merge.final import WeightedAverage, confirm_related, most_samples
from p2pdl.protocol.finish import Gathering
from p2pdl.protocol.held import LEASE_SECONDS
from p2pdl.protocol.messages import StatusReply, StatusRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector, JsonObject, NodeId

log = logging.getLogger(__name__)

Pause = Callable[[float], bool]
"""Waits so many seconds; True if the node has been told to stop meanwhile."""

ASK_SECONDS = 2.0
"""How long a peer may take to say how it is."""

POLL_SECONDS = 0.2
"""At the end of a run, how often the others are asked."""

START_POLL_SECONDS = 0.05
"""At its start: often, since whoever learns late that all are ready starts late."""

ABSENCE_SECONDS = 3.0
"""At the start: a peer that has not answered by then is not starting with us."""

PULL_ATTEMPTS = 2

FINAL_PATIENCE_SECONDS = 1.5 * LEASE_SECONDS
"""A finished node's server may still hold older versions for pulls that were called off; their leases run out."""

FINAL_BUSY_SECONDS = 600.0
"""How long a node waits for its turn at a server that serves others first."""

RETRY_SECONDS, BUSY_RETRY_SECONDS = 0.25, 0.05


def statuses(
    requester: Requester, addresses: Mapping[NodeId, str], timeout: float = ASK_SECONDS
) -> dict[NodeId, StatusReply | PeerError]:
    """Ask nodes how they are, all at once.

    Args:
        requester: Who asks.
        addresses: `host:port` of each node.
        timeout: Seconds.

    Returns:
        For each node its status, or why there is none.
    """
    answers = requester.ask_all(addresses.values(), StatusRequest(), timeout)
    found: dict[NodeId, StatusReply | PeerError] = {}
    for node, address in addresses.items():
        answer = answers[address]
        if isinstance(answer, PeerError):
            found[node] = answer
        elif isinstance(answer[0], StatusReply):
            found[node] = answer[0]
        else:
            found[node] = PeerError(f"{node}: answered something else than its status")
    return found


def start_together(
    requester: Requester, addresses: Mapping[NodeId, str], longest: float, clock: Clock, pause: Pause
) -> list[NodeId]:
    """Wait while other nodes are building their models, so that nobody trains far ahead of the rest.

    A node that does not answer is not waited for beyond `ABSENCE_SECONDS`; if one trains already, nobody is.

    Args:
        requester: Who asks.
        addresses: The other nodes.
        longest: Seconds to wait in all.
        clock: Source of times.
        pause: How to wait.

    Returns:
        The nodes that answered at the end.
    """
    started = clock.now()
    seen: dict[NodeId, str] = {}
    while True:
        silent = False
        for node, answer in statuses(requester, addresses).items():
            if isinstance(answer, PeerError):
                silent = silent or node not in seen
            else:
                seen[node] = answer.state
        waited = clock.now() - started
        on_their_way = any(state == "starting" for state in seen.values()) or (silent and waited < ABSENCE_SECONDS)
        late = any(state in ("training", "finished", "merged") for state in seen.values())
        if late or not on_their_way or waited >= longest or pause(START_POLL_SECONDS):
            return sorted(seen)


def gather(
    requester: Requester,
    addresses: Mapping[NodeId, str],
    goal: frozenset[str],
    linger: float,
    clock: Clock,
    pause: Pause,
) -> Gathering:
    """Wait until the other nodes have reached a goal or are not coming.

    Args:
        requester: Who asks.
        addresses: The other nodes.
        goal: The states to wait for.
        linger: Seconds to wait in all.
        clock: Source of times.
        pause: How to wait.
    """
    gathering = Gathering(addresses, goal, clock.now(), linger)
    told: list[NodeId] = []
    while True:
        for node, answer in statuses(requester, addresses).items():
            if isinstance(answer, PeerError):
                gathering.on_silence(node, answer.message)
            else:
                gathering.on_status(node, answer.state, clock.now())
        now = clock.now()
        if gathering.is_over(now):
            return gathering
        awaited = gathering.awaited(now)
        if awaited != told:
            log.info("waiting until %s %s (%g s at most)", ", ".join(awaited), verb(awaited, goal), linger)
            told = awaited
        if pause(POLL_SECONDS):
            return gathering


def verb(awaited: list[NodeId], goal: frozenset[str]) -> str:
    """What the others are waited for to do."""
    have = "have" if len(awaited) > 1 else "has"
    return f"{have} finished" if "finished" in goal else f"{have} done the final merge"


@dataclass(frozen=True, slots=True)
class FinalMerge:
    """What the final merge came to.

    Attributes:
        vector: The average of the nodes' final weights, weighted by samples.
        nodes: Whose weights are in it, by name.
        missing: Why each of the others is not.
        outcomes: How each pull ended.
        seconds: How long the pulls took, without the wait for nodes that had not finished.
    """

    vector: Float32Vector
    nodes: list[NodeId]
    missing: dict[NodeId, str]
    outcomes: list[Outcome]
    seconds: float

    def figures(self) -> JsonObject:
        """What a summary has of it."""
        return {"nodes": self.nodes, "missing": self.missing, "seconds": self.seconds}


def final_merge(
    requester: Requester,
    own: tuple[NodeId, Float32Vector, int],
    arrived: Mapping[NodeId, str],
    spec: WeightSpec,
    settings: PullSettings,
    inbox: Inbox,
    clock: Clock,
    pause: Pause,
    clips: bool = True,
) -> FinalMerge:
    """Average the final weights of the nodes that have finished.

    Every node adds up the same vectors in the same order, so that all of them end with the same bits. A node counts for
    twice the samples of the median at most, whatever it claims, and weights that no training like this node's can have
    come to are left out.

    Args:
        requester: Who asks.
        own: This node's name, final weights and samples.
        arrived: `host:port` of the other nodes that have finished.
        spec: The model's layout.
        settings: Deadlines of the pulls.
        inbox: Scratch space for each pull.
        clock: Source of times.
        pause: How to wait.
        clips: False to refuse for its distance only what has none in float32.
    """
    began = clock.now()
    name, vector, samples = own
    answers = statuses(requester, arrived).values()
    most = most_samples([samples, *(answer.samples for answer in answers if isinstance(answer, StatusReply))])
    average = WeightedAverage(spec.size)
    nodes: list[NodeId] = []
    missing: dict[NodeId, str] = {}
    outcomes: list[Outcome] = []
    for node in sorted([name, *arrived]):
        if node == name:
            average.add(vector, _counted(samples, most))
            nodes.append(node)
            continue
        outcome = _pull_final(requester, node, arrived[node], spec, settings, inbox, vector, clock, pause)
        outcomes.append(outcome)
        if outcome.snapshot is None:
            assert outcome.error is not None
            missing[node] = outcome.error.message
        elif not outcome.snapshot.final:
            missing[node] = "the weights it serves are not its final ones"
        else:
            try:
                confirm_related(node, inbox.distance, inbox.own_scale(), clips)
            except RejectedWeights as error:
                missing[node] = error.message
                continue
            average.add(inbox.vector, _counted(outcome.snapshot.samples, most))
            nodes.append(node)
    result = average.result()
    if not np.isfinite(result).all():
        # Statistics have no distance; what they come to together cannot be laid at one node's door.
        missing |= {node: "the average is not finite with it" for node in nodes if node != name}
        nodes, result = [name], vector.copy()
    return FinalMerge(result, nodes, missing, outcomes, clock.now() - began)


def _counted(samples: int, most: int | None) -> int:
    return samples if most is None else min(samples, most)


def _pull_final(
    requester: Requester,
    node: NodeId,
    address: str,
    spec: WeightSpec,
    settings: PullSettings,
    inbox: Inbox,
    own: Float32Vector,
    clock: Clock,
    pause: Pause,
) -> Outcome:
    """Pull until the weights are the node's final ones, or patience is over; a pull that fails is tried once more."""
    started = clock.now()
    give_up_at = started + FINAL_PATIENCE_SECONDS
    failures = 0
    while True:
        inbox.expect(own, raw=True)
        outcome = requester.pull(node, address, spec, settings, inbox.accept, called_off=lambda: pause(0.0))
        if outcome.snapshot is not None and outcome.snapshot.final:
            return outcome
        # A server that serves others first has not failed.
        is_busy = outcome.error is not None and outcome.error.code == "busy"
        failures += outcome.error is not None and not is_busy
        if is_busy:
            give_up_at = min(clock.now() + FINAL_PATIENCE_SECONDS, started + FINAL_BUSY_SECONDS)
        wait = BUSY_RETRY_SECONDS if is_busy else RETRY_SECONDS
        if failures == PULL_ATTEMPTS or clock.now() >= give_up_at or pause(wait):
            return outcome
