"""Strikes nodes when a schedule says so, and undoes it in time: what was stopped goes on, what was ended is started."""

from __future__ import annotations

import heapq
import itertools
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from p2pdl.node.restarts import how_it_ended
from p2pdl.types import NodeId
from tools.storm.cluster import StormNode
from tools.storm.events import Event
from tools.storm.journal import Journal
from tools.storm.observations import Stop

ANSWERS = (0, -signal.SIGTERM)
"""What SIGTERM may end a node with: the latter only before it can handle signals."""

PAUSED = {
    "pause trainer": ("trainer",),
    "pause server": ("server",),
    # Whoever watches is stopped first.
    "pause node": ("supervisor", "server", "trainer"),
}

Say = Callable[[float, NodeId, str], None]
"""Tells people something of a node: seconds since the storm began, its name, what happened."""


class Striker:
    """Performs the events of a storm; used by one thread, which looks in several times a second.

    A node that was ended is started again with the same command, as a service manager does; one that ends otherwise is
    not, and counts as wrong.

    Args:
        nodes: Whom it can strike, all of them started.
        events: What to do.
        journal: Where it is written down.
        say: Tells people.

    Attributes:
        stops: Times in which nodes could not train.
        wrong: What went wrong, in words.
        ended: Nodes that have ended for good.
    """

    def __init__(self, nodes: Mapping[NodeId, StormNode], events: Iterable[Event], journal: Journal, say: Say) -> None:
        self._nodes = nodes
        self._journal = journal
        self._say = say
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._ending: dict[NodeId, Event] = {}
        self._away_since: dict[NodeId, float] = {}
        self.stops: list[Stop] = []
        self.wrong: list[str] = []
        self.ended: set[NodeId] = set()
        for event in events:
            self._at(event.at, partial(self._strike, event))

    @property
    def is_over(self) -> bool:
        """True when every event is over and every node is back, or nobody is left to strike."""
        return not (self._due or self._away_since) or len(self.ended) == len(self._nodes)

    def look(self, at: float) -> None:
        """Do what is due.

        Args:
            at: Seconds since the storm began.
        """
        for node in self._nodes.values():
            if (code := node.reap()) is not None:
                self._on_end(node, code, at)
        while self._due and self._due[0][0] <= at:
            heapq.heappop(self._due)[2](at)

    def _at(self, at: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), act))

    def _strike(self, event: Event, at: float) -> None:
        node = self._nodes[event.victim]
        struck = event.victim not in self.ended and self._perform(event, node, at)
        self._journal.event(event, struck)
        self._say(at, event.victim, f"{event}" if struck else f"{event}: there was nothing to strike")

    def _perform(self, event: Event, node: StormNode, at: float) -> bool:
        """Do to a node what an event says; False if there is nothing to do it to."""
        now = time.time()
        match event.act:
            case "kill supervisor" | "restart":
                number = signal.SIGTERM if event.act == "restart" else signal.SIGKILL
                if not node.signal("supervisor", number):
                    return False
                self._ending[node.name] = event
                self._away_since.setdefault(node.name, now)
            case "kill trainer":
                if not node.signal("trainer", signal.SIGKILL):
                    return False
                self.stops.append(Stop(node.name, now, now, lost=True))
            case "kill server":
                return node.signal("server", signal.SIGKILL)
            case "pause trainer" | "pause server" | "pause node":
                processes = node.processes()
                roles = [role for role in PAUSED[event.act] if node.signal(role, signal.SIGSTOP)]
                stopped = {role: processes[role] for role in roles if role in processes}
                if not stopped:
                    return False
                self._at(at + event.seconds, partial(self._go_on, node, stopped, now))
            case _:
                return self._disturb(event, node, at)
        return True

    def _disturb(self, event: Event, node: StormNode, at: float) -> bool:
        """Do something to the way to a node."""
        if node.proxy is None:
            return False
        match event.act:
            case "partition":
                node.proxy.half_open()
            case "corrupt":
                node.proxy.corrupt(round(event.value))
            case "narrow":
                node.proxy.bandwidth(event.value)
            case "delay":
                node.proxy.latency(event.value)
        self._at(at + event.seconds, partial(self._heal, node))
        return True

    def _go_on(self, node: StormNode, stopped: Mapping[str, int], since: float, at: float) -> None:
        running = node.processes()
        for role in reversed(list(stopped)):
            if running.get(role) == stopped[role]:
                node.signal(role, signal.SIGCONT)
        if "trainer" in stopped:
            self.stops.append(Stop(node.name, since, time.time(), lost=False))
        self._tell(at, node.name, "goes on")

    def _heal(self, node: StormNode, at: float) -> None:
        assert node.proxy is not None
        node.proxy.heal()
        self._tell(at, node.name, "can be reached as before")

    def _on_end(self, node: StormNode, code: int, at: float) -> None:
        event = self._ending.pop(node.name, None)
        how = how_it_ended(code)
        # Killed a moment after its last deed: to start it again would begin another run.
        if node.is_done and (code == 0 or event is not None):
            self._away_since.pop(node.name, None)
            self.ended.add(node.name)
            self._tell(at, node.name, f"is done ({how})")
            return
        if event is None or (event.act == "restart" and code not in ANSWERS):
            self.wrong.append(f"{node.name} ended {'by itself' if event is None else 'after SIGTERM'} with {how}")
        if event is None:
            self.ended.add(node.name)
            self._tell(at, node.name, f"ended by itself with {how}; it said:\n{node.last_words()}")
            return
        self._at(at + event.seconds, partial(self._start, node))

    def _start(self, node: StormNode, at: float) -> None:
        node.start()
        self.stops.append(Stop(node.name, self._away_since.pop(node.name), time.time(), lost=True))
        self._tell(at, node.name, "started again")

    def _tell(self, at: float, node: NodeId, text: str) -> None:
        self._journal.note(at, node, text)
        self._say(at, node, text)
