"""One node of a simulated membership: the real core, and a host that is as late as told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

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
        is_running: False after its end.
        superseded: Set when another process has prevailed, which has ended this one.
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
        self.is_running = True
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
        self.is_running = False
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
        if envelope is None or not self.is_running:
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
        elif self.is_running:
            self._take(received)

    def _take(self, received: Received) -> None:
        envelope = self._carrier.unpack(received.frames[0])
        if envelope is not None:
            now = self._network.clock.now()
            self._perform(self.core.on_reply(envelope.id, envelope.node, envelope.message, now))

    def _tick(self) -> None:
        now = self._network.clock.now()
        if self.is_running and not self.is_paused and now >= self.core.deadline:
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
                self.stop()
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
        if deadline == self._tick_at or not self.is_running:
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
