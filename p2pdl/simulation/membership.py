"""Clusters of the real membership core on the in-memory network, with everything that can go wrong there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from p2pdl.clock import VirtualClock
from p2pdl.protocol.membership.actions import Changed
from p2pdl.protocol.membership.core import Membership
from p2pdl.protocol.membership.members import Member
from p2pdl.protocol.membership.presets import MembershipSettings
from p2pdl.simulation.member import Bytes, Objects, SimulatedMember
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.types import NodeId

SLICE_SECONDS = 1.0
"""Virtual time after which the network's journal is thrown away: an hour of it would fill the memory."""


class MembershipCluster:
    """Nodes `node0`, `node1`, ... that know each other's addresses from the start, as out of one file.

    Args:
        count: How many to start.
        settings: Times.
        seed: Of every chance: the same seed and calls give the same run.
        is_encoded: True for messages in bytes, false for objects.
        start_seconds: Time within which all are started.
        lateness: Seconds by which hosts may be late with a tick.

    Attributes:
        network: The network.
        processes: All nodes that were ever started.
        members: Those of them that were started last under each name.
    """

    def __init__(
        self,
        count: int,
        settings: MembershipSettings,
        seed: int = 0,
        is_encoded: bool = True,
        start_seconds: float = 1.0,
        lateness: float = 0.0,
    ) -> None:
        self.network = MemoryNetwork(VirtualClock(), seed)
        self.settings = settings
        self.processes: list[SimulatedMember] = []
        self.members: dict[NodeId, SimulatedMember] = {}
        self._rng = np.random.default_rng([seed, 2])
        self._carrier = Bytes() if is_encoded else Objects()
        self._lateness = lateness
        self.contacts = {f"node{number}": f"10.0.{number // 250}.{number % 250}:7101" for number in range(count)}
        for name in self.contacts:
            self.network.at(start_seconds * self._rng.random(), self._starter(name))

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.network.clock.now()

    @property
    def running(self) -> list[SimulatedMember]:
        """The nodes whose processes are there."""
        return sorted((it for it in self.processes if it.is_running), key=lambda it: it.name)

    def start(
        self,
        name: NodeId,
        address: str = "",
        contacts: Mapping[NodeId, str] | None = None,
        join: Sequence[str] = (),
        keys: Mapping[NodeId, str] | None = None,
    ) -> SimulatedMember:
        """Start a node, in a new life; one of that name that runs already goes on running beside it.

        Args:
            name: Its name.
            address: Where, if not where the file says.
            contacts: What its file says, if not what the others' says.
            join: Addresses that it is told besides.
            keys: Public keys by name.
        """
        address = address or self.contacts[name]
        key = keys.get(name, "") if keys else ""
        own = Member(name, address, key, int(self._rng.integers(2**64, dtype=np.uint64)), 0, "alive")
        known = self.contacts if contacts is None else contacts
        seed = int(self._rng.integers(2**32))
        arguments = (known, self.settings, seed, join, self._lateness, keys)
        started = SimulatedMember(own, self.network, self._carrier, *arguments)
        self.members[name] = started
        self.processes.append(started)
        return started

    def _starter(self, name: NodeId) -> Callable[[], None]:
        def start() -> None:
            self.start(name)

        return start

    def stop(self, name: NodeId) -> None:
        """Kill a node."""
        self.members[name].stop()

    def leave(self, name: NodeId) -> None:
        """Let a node end by itself."""
        self.members[name].leave()

    def cut(self, one: Collection[NodeId], other: Collection[NodeId], both_ways: bool = True) -> None:
        """Let nothing pass from some nodes to some others."""
        for name, another in itertools.product(one, other):
            pair = self.members[name].address, self.members[another].address
            self.network.faults.cut |= {pair, pair[::-1]} if both_ways else {pair}

    def heal(self) -> None:
        """End all cuts, loss and delay, and let stopped processes go on."""
        faults = self.network.faults
        faults.cut.clear()
        faults.loss, faults.delay = 0.0, (0.001, 0.001)
        for member in self.running:
            if member.is_paused:
                member.go_on()

    def run(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float, step: float = SLICE_SECONDS) -> float:
        """Let time pass until a condition holds.

        Args:
            condition: Asked after each step.
            seconds: Virtual time to give up after.
            step: Virtual seconds between two looks.

        Returns:
            The virtual seconds that it took; infinite if it did not come true.
        """
        began = self.now
        while self.now < began + seconds:
            self.network.run_until(min(self.now + step, began + seconds))
            self.network.journal.clear()
            if condition():
                return self.now - began
        return math.inf

    def agrees(self) -> bool:
        """True if every node that runs holds exactly those that run for alive, each in its present life and place.

        Nobody is under suspicion any more, neither one that runs nor one that does not.
        """
        running = self.running
        lives = {it.name: (it.core.members[it.name].life, it.address, "alive") for it in running}
        return len(lives) == len(running) and all(present(it.core) == lives for it in running)

    def changes(self, state: str) -> list[tuple[float, NodeId, Changed]]:
        """All changes to a state that nodes have seen: when, by whom, and what."""
        return [
            (moment, it.name, change)
            for it in self.processes
            for moment, change in it.log
            if change.member.state == state
        ]


def present(core: Membership) -> dict[NodeId, tuple[int, str, str]]:
    """Life, address and state by name of the members that a node holds for alive, or suspects."""
    return {name: (it.life, it.address, it.state) for name, it in core.members.items() if it.is_present}
