"""When what befalls which node: all of it follows from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pdl.types import NodeId
from tools.storm.events import ACTS, Event

BREATH_SECONDS = 2.0
"""A node's processes are left alone for so long after an act upon them, and so is the way to it. That is less than a
start takes, so that nodes are struck while they start."""


def storm(seed: int, nodes: Sequence[NodeId], seconds: float, kinds: Sequence[str], every: float) -> list[Event]:
    """A storm in which a process and the link of one node can be struck at the same time, but neither of them twice.

    Args:
        seed: Decides everything.
        nodes: Whom it may strike.
        seconds: By when the last event is over.
        kinds: Of `events.KINDS`, each as likely as the others.
        every: Mean seconds from one event to the next.

    Returns:
        The events in the order of their times.
    """
    random = np.random.default_rng(seed)
    acts = {kind: [name for name, act in ACTS.items() if act.kind == kind] for kind in kinds}
    free_at = {(node, place): 0.0 for node in nodes for place in ("process", "link")}
    events: list[Event] = []
    at = 0.0
    while (at := at + float(random.exponential(every))) < seconds:
        act = str(random.choice(acts[str(random.choice(kinds))]))
        what = ACTS[act]
        length, value = _between(random, what.seconds), _between(random, what.value)
        calm = [node for node in nodes if free_at[node, what.place] <= at]
        if not calm or at + what.seconds[0] > seconds:
            continue
        victim = str(random.choice(calm))
        length = min(length, seconds - at)
        free_at[victim, what.place] = at + length + BREATH_SECONDS
        events.append(Event(round(at, 3), victim, act, round(length, 3), round(value, 3)))
    return events


def round_robin(seed: int, nodes: Sequence[NodeId], every: float, rounds: int, seconds: float) -> list[Event]:
    """Each node's supervisor is killed in turn, in a new order in each round.

    Args:
        seed: Decides the orders.
        nodes: Whom to strike.
        every: Seconds from one kill to the next.
        rounds: How often each node is killed.
        seconds: How long a killed node stays away.
    """
    random = np.random.default_rng(seed)
    victims = [str(node) for _ in range(rounds) for node in random.permutation(nodes)]
    return [Event(every * (place + 1), victim, "kill supervisor", seconds) for place, victim in enumerate(victims)]


def _between(random: np.random.Generator, limits: tuple[float, float]) -> float:
    """A number between two, on a logarithmic scale where both are above 0."""
    low, high = limits
    if low > 0:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    return float(random.uniform(low, high))
