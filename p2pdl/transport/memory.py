"""An in-memory network under a virtual clock: it can lose, delay, repeat, reorder, cut, pause and corrupt messages."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from p2pdl.clock import VirtualClock
from p2pdl.errors import PeerError
from p2pdl.transport.contract import Frames, Received

Handler = Callable[[list[memoryview], float], Frames | None]
"""Answers a request: (frames, now) -> frames of the reply, or None for silence."""

Arrival = Callable[[Received, float], None]
"""Takes a reply: (reply, now)."""

PAUSE_STEP = 0.05
"""Seconds of virtual time after which a paused address is looked at again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the journal: `event` is `sent`, `lost`, `corrupted`, `repeated` or `delivered`."""

    now: float
    event: str
    source: str
    target: str
    nbytes: int


@dataclass(slots=True)
class Faults:
    """What the network does to messages from now on.

    A connection keeps the order of its messages and repeats none. `duplication` and `reordering` break that on purpose:
    they stand for what is seen across connections that are dropped and made anew, where a request that was thought
    lost is answered after all, and old and new messages overtake each other.

    Attributes:
        loss: Probability that a message vanishes.
        delay: Bounds in seconds of a message's uniformly drawn travel time.
        bandwidth: Bytes per second of each sender's link; infinite by default.
        corruption: Probability that one byte of a message's last frame is changed.
        duplication: Probability that a message arrives a second time, after a delay of its own.
        reordering: Probability that a message does not wait for those that were sent before it.
        cut: Pairs (source, target) between which nothing passes.
        paused: Addresses that take messages but answer only when they go on.
    """

    loss: float = 0.0
    delay: tuple[float, float] = (0.001, 0.001)
    bandwidth: float = float("inf")
    corruption: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    cut: set[tuple[str, str]] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)


class MemoryNetwork:
    """A network of handlers, moved on by `run_until`.

    Messages of one pair of addresses arrive in order, as on a connection, unless `Faults.reordering` says otherwise.

    Args:
        clock: The time, which only this network moves.
        seed: Of every chance; the same seed and calls give the same journal.
    """

    def __init__(self, clock: VirtualClock, seed: int = 0) -> None:
        self.clock = clock
        self.faults = Faults()
        self.journal: list[Entry] = []
        self._rng = np.random.default_rng(seed)
        self._handlers: dict[str, Handler] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._free_at: dict[str, float] = {}
        self._last_arrival: dict[tuple[str, str], float] = {}
        self._waiting: dict[str, deque[Callable[[], None]]] = {}

    def serve(self, address: str, handler: Handler) -> None:
        """Let `handler` answer the requests to `address`."""
        self._handlers[address] = handler

    def stop(self, address: str) -> None:
        """Nobody answers at `address` any more."""
        self._handlers.pop(address, None)

    def client(self, name: str, on_arrival: Arrival | None = None) -> MemoryClient:
        """A client whose address is `name`; replies go to `on_arrival`, or wait for `receive`."""
        return MemoryClient(self, name, on_arrival)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call something at a moment of the virtual time."""
        heapq.heappush(self._events, (max(when, self.clock.now()), self._count, call))
        self._count += 1

    def run_until(self, when: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Handle every event up to `when`, or until `stop()` is true."""
        while self._events and self._events[0][0] <= when and not stop():
            moment, _, call = heapq.heappop(self._events)
            self.clock.advance_to(max(moment, self.clock.now()))
            call()
        if not stop():
            self.clock.advance_to(max(when, self.clock.now()))

    def transmit(self, source: str, target: str, frames: Frames, deliver: Callable[[list[memoryview]], None]) -> None:
        """Carry frames from one address to another, or lose them."""
        copies = [bytearray(memoryview(frame).cast("B")) for frame in frames]
        nbytes = sum(map(len, copies))
        now = self.clock.now()
        self._note("sent", source, target, nbytes)
        departure = max(now, self._free_at.get(source, now)) + nbytes / self.faults.bandwidth
        self._free_at[source] = departure
        if departure > now:
            # As a socket that sends without copying: the frames are referred to until they have left.
            self.at(departure, partial(_leave, frames))
        if (source, target) in self.faults.cut or self._rng.random() < self.faults.loss:
            self._note("lost", source, target, nbytes)
            return
        if copies and copies[-1] and self._rng.random() < self.faults.corruption:
            self._note("corrupted", source, target, nbytes)
            copies[-1][int(self._rng.integers(len(copies[-1])))] ^= 1 << int(self._rng.integers(8))

        def arrive() -> None:
            if (source, target) in self.faults.cut:
                self._note("lost", source, target, nbytes)
                return
            self._note("delivered", source, target, nbytes)
            deliver([memoryview(bytes(copy)) for copy in copies])

        self.at(self._arrival((source, target), departure), arrive)
        if self._happens(self.faults.duplication):
            self._note("repeated", source, target, nbytes)
            self.at(self._arrival((source, target), departure), arrive)

    def request(self, source: str, target: str, frames: Frames, on_reply: Callable[[list[memoryview]], None]) -> None:
        """Carry a request there and its reply back."""

        def answer(request: list[memoryview]) -> None:
            handler = self._handlers.get(target)
            reply = handler(request, self.clock.now()) if handler else None
            if reply is not None:
                self.transmit(target, source, reply, on_reply)

        def arrive(request: list[memoryview]) -> None:
            waiting = self._waiting.setdefault(target, deque())
            waiting.append(lambda: answer(request))
            if len(waiting) == 1:
                self._go_on(target)

        self.transmit(source, target, frames, arrive)

    def _arrival(self, pair: tuple[str, str], departure: float) -> float:
        """When a message arrives that leaves now: as a rule not before those that have left before it."""
        arrival = departure + float(self._rng.uniform(*self.faults.delay))
        if not self._happens(self.faults.reordering):
            arrival = max(arrival, self._last_arrival.get(pair, 0.0))
            self._last_arrival[pair] = arrival
        return arrival

    def _happens(self, probability: float) -> bool:
        # No number is drawn for a fault that is off: what a seed gives does not depend on the faults there could be.
        return probability > 0.0 and self._rng.random() < probability

    def _go_on(self, target: str) -> None:
        waiting = self._waiting[target]
        while waiting and target not in self.faults.paused:
            waiting.popleft()()
        if waiting:
            self.at(self.clock.now() + PAUSE_STEP, lambda: self._go_on(target))

    def _note(self, event: str, source: str, target: str, nbytes: int) -> None:
        self.journal.append(Entry(self.clock.now(), event, source, target, nbytes))


class MemoryClient:
    """The client's end: event-driven with `on_arrival`, or by `receive`, which moves the virtual time."""

    def __init__(self, network: MemoryNetwork, name: str, on_arrival: Arrival | None) -> None:
        self._network = network
        self._name = name
        self._on_arrival = on_arrival
        self._inbox: list[Received] = []
        self._epoch: dict[str, int] = {}

    def send(self, address: str, frames: Frames) -> None:
        """See `ClientTransport.send`."""
        epoch = self._epoch.setdefault(address, 0)

        def arrive(reply: list[memoryview]) -> None:
            if self._epoch.get(address) != epoch:
                return
            received = Received(address, reply)
            if self._on_arrival:
                self._on_arrival(received, self._network.clock.now())
            else:
                self._inbox.append(received)

        self._network.request(self._name, address, frames, arrive)

    def receive(self, timeout: float) -> Received | None:
        """See `ClientTransport.receive`."""
        if not self._inbox:
            self._network.run_until(self._network.clock.now() + timeout, stop=lambda: bool(self._inbox))
        return self._inbox.pop(0) if self._inbox else None

    def reason(self, address: str) -> PeerError | None:
        """See `ClientTransport.reason`. This network has no connections that could tell."""
        return None

    def reset(self, address: str) -> None:
        """See `ClientTransport.reset`."""
        self._epoch[address] = self._epoch.get(address, 0) + 1
        self._inbox = [received for received in self._inbox if received.address != address]

    def close(self) -> None:
        """See `ClientTransport.close`."""
        for address in list(self._epoch):
            self.reset(address)


def _leave(frames: Frames) -> None:
    """The frames are on their way: the event that calls this was the last to refer to them."""
