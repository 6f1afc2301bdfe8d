"""Clusters of the real membership core on the in-memory network, with everything that can go wrong there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from p2pdl.clock import VirtualClock
from p2pdl.protocol.membership.actions import Action, Ask, Changed, Superseded
from p2pdl.protocol.membership.core import Membership
from p2pdl.protocol.membership.members import Member
from p2pdl.protocol.membership.presets import MembershipSettings
from p2pdl.protocol.messages import Envelope, ProbeRequest, RelayedRequest, RelayRequest, SyncRequest
from p2pdl.transport.contract import Frames, Received
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.types import NodeId
from p2pdl.wire import decode, encode

CLUSTER = "simulated"

SLICE_SECONDS = 1.0
"""Virtual time after which the network's journal is thrown away: an hour of it would fill the memory."""

OBJECT_SECONDS = 60.0
"""Virtual time for which messages that are passed as objects are kept for their receivers."""


class Bytes:
    """Messages as they are on the wire."""

    def pack(self, envelope: Envelope, now: float) -> bytes:
        """One frame."""
        return encode(envelope)

    def unpack(self, frame: memoryview) -> Envelope | None:
        """The message of a frame."""
        return decode(frame)


class Objects:
    """Messages that stay what they are while only a number travels: a large cluster spends its time on encoding."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._kept: dict[int, tuple[float, Envelope]] = {}

    def pack(self, envelope: Envelope, now: float) -> bytes:
        """The number."""
        while self._kept and next(iter(self._kept.values()))[0] < now - OBJECT_SECONDS:
            del self._kept[next(iter(self._kept))]
        number = next(self._numbers)
        self._kept[number] = now, envelope
        return number.to_bytes(8, "little")

    def unpack(self, frame: memoryview) -> Envelope | None:
        """The message; None if it was under way for too long."""
        _, envelope = self._kept.pop(int.from_bytes(frame, "little"), (0.0, None))
        return envelope


class SimulatedMember:
    """One node: its core, and a host that is as late as told.

    Args:
        own: The node.
        network: The network, whose clock is the time.
        carrier: How messages travel.
        contacts: Addresses by name that it begins with.
        settings: Times.
        seed: Of its chances.
        join: Further addresses.
        lateness: Seconds by which its host may be late with a tick.
        keys: Public keys by name; None without encryption.

    Attributes:
        core: The membership.
        log: Moment and change of everything that a log would tell.
        superseded: Set when another process has prevailed.
        sent: Messages sent, requests and replies.
        sent_nbytes: Bytes of them.
    """

    def __init__(
        self,
        own: Member,
        network: MemoryNetwork,
        carrier: Bytes | Objects,
        contacts: Mapping[NodeId, str],
        settings: MembershipSettings,
        seed: int,
        join: Sequence[str] = (),
        lateness: float = 0.0,
        keys: Mapping[NodeId, str] | None = None,
    ) -> None:
        self.name, self.address = own.name, own.address
        self.log: list[tuple[float, Changed]] = []
        self.superseded: Superseded | None = None
        self.sent = self.sent_nbytes = 0
        self._network = network
        self._carrier = carrier
        self._rng = np.random.default_rng([seed, 1])
        self._lateness = lateness
        self._is_running = True
        self._unread: list[Received] = []
        self._tick_at = math.inf
        rng = np.random.default_rng([seed, 0])
        self.core = Membership(own, contacts, settings, rng, network.clock.now(), keys, join)
        self._client = network.client(own.address, self._on_arrival)
        network.serve(own.address, self._on_request)
        self._arrange_tick()

    @property
    def is_paused(self) -> bool:
        """True while the process is stopped."""
        return self.address in self._network.faults.paused

    def stop(self) -> None:
        """End at once and for good, without a word."""
        self._is_running = False
        self._network.stop(self.address)
        self._network.faults.paused.discard(self.address)
        self._client.close()

    def leave(self) -> None:
        """Say goodbye, and end."""
        self._perform(self.core.leave(self._network.clock.now()))
        self.stop()

    def pause(self) -> None:
        """Stop the process; what arrives meanwhile waits for it."""
        self._network.faults.paused.add(self.address)

    def go_on(self) -> None:
        """Let it run again."""
        self._network.faults.paused.discard(self.address)
        self._tick()
        unread, self._unread = self._unread, []
        for received in unread:
            self._take(received)

    def tell(self, address: str, request: ProbeRequest | SyncRequest | RelayRequest | RelayedRequest) -> None:
        """Send something that the core has not asked for, as a node would that has been tampered with."""
        self._send(Ask(0, address, request))

    def _on_request(self, frames: list[memoryview], now: float) -> Frames | None:
        envelope = self._carrier.unpack(frames[0])
        if envelope is None or not self._is_running:
            return None
        request = envelope.message
        assert isinstance(request, ProbeRequest | SyncRequest | RelayRequest | RelayedRequest)
        reply, actions = self.core.on_request(request, envelope.node, now)
        self._perform(actions)
        frame = self._carrier.pack(Envelope(envelope.id, CLUSTER, self.name, reply), now)
        self._count(frame)
        return [frame]

    def _on_arrival(self, received: Received, now: float) -> None:
        if self.is_paused:
            self._unread.append(received)
        elif self._is_running:
            self._take(received)

    def _take(self, received: Received) -> None:
        envelope = self._carrier.unpack(received.frames[0])
        if envelope is not None:
            now = self._network.clock.now()
            self._perform(self.core.on_reply(envelope.id, envelope.node, envelope.message, now))

    def _tick(self) -> None:
        now = self._network.clock.now()
        if self._is_running and not self.is_paused and now >= self.core.deadline:
            self._perform(self.core.on_tick(now))
            assert self.core.deadline > now, "a core that is never done"

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Ask):
                self._send(action)
            elif isinstance(action, Changed):
                self.log.append((self._network.clock.now(), action))
            else:
                self.superseded = action
        self._arrange_tick()

    def _send(self, ask: Ask) -> None:
        frame = self._carrier.pack(Envelope(ask.id, CLUSTER, self.name, ask.request), self._network.clock.now())
        self._count(frame)
        self._client.send(ask.address, [frame])

    def _count(self, frame: bytes) -> None:
        self.sent += 1
        self.sent_nbytes += len(frame)

    def _arrange_tick(self) -> None:
        deadline = self.core.deadline
        if deadline == self._tick_at or not self._is_running:
            return
        self._tick_at = deadline
        if deadline == math.inf:
            return
        late = self._lateness * self._rng.random() if self._lateness else 0.0

        def tick() -> None:
            # What has come in meanwhile may have arranged another one.
            if self._tick_at == deadline:
                self._tick()

        self._network.at(deadline + late, tick)


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
        members: The nodes that were started last under each name, running or not.
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
        self.members: dict[NodeId, SimulatedMember] = {}
        self._running: set[NodeId] = set()
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
        return [self.members[name] for name in sorted(self._running)]

    def start(
        self,
        name: NodeId,
        address: str = "",
        contacts: Mapping[NodeId, str] | None = None,
        join: Sequence[str] = (),
        keys: Mapping[NodeId, str] | None = None,
    ) -> SimulatedMember:
        """Start a node, in a new life; one of that name that runs already goes on running, but out of sight.

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
        self.members[name] = SimulatedMember(own, self.network, self._carrier, *arguments)
        self._running.add(name)
        return self.members[name]

    def _starter(self, name: NodeId) -> Callable[[], None]:
        def start() -> None:
            self.start(name)

        return start

    def stop(self, name: NodeId) -> None:
        """Kill a node."""
        self._running.remove(name)
        self.members[name].stop()

    def leave(self, name: NodeId) -> None:
        """Let a node end by itself."""
        self._running.remove(name)
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
        """True if every node that runs takes exactly those that run for alive, each in its present life and place."""
        running = self.running
        lives = {member.name: (member.core.members[member.name].life, member.address) for member in running}
        return all(alive(member.core) == lives for member in running)

    def changes(self, state: str) -> list[tuple[float, NodeId, Changed]]:
        """All changes to a state that nodes have seen: when, by whom, and what."""
        return [
            (moment, member.name, change)
            for member in self.members.values()
            for moment, change in member.log
            if change.member.state == state
        ]


def alive(core: Membership) -> dict[NodeId, tuple[int, str]]:
    """Life and address by name of those whom a node takes for alive."""
    return {name: (member.life, member.address) for name, member in core.members.items() if member.state == "alive"}
