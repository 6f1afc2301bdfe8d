"""A client transport without a network, which notes what is done with it."""

from __future__ import annotations

from collections import deque

from p2pdl.errors import PeerError
from p2pdl.transport.contract import Frames, Received


class Noting:
    """A client to which only comes what the test says.

    Attributes:
        open: Addresses with a connection, in the order of their making, and what was sent there.
        resets: Addresses whose connections were dropped.
        refused: Addresses to which nothing can be sent.
    """

    def __init__(self) -> None:
        self.open: dict[str, list[Frames]] = {}
        self.resets: list[str] = []
        self.refused: set[str] = set()
        self._answers: deque[Received] = deque()

    def answer(self, address: str, *frames: bytes) -> None:
        """Let something come from an address."""
        self._answers.append(Received(address, [memoryview(frame) for frame in frames]))

    def send(self, address: str, frames: Frames) -> None:
        if address in self.refused:
            raise PeerError(f"{address}: no", code="address")
        self.open.setdefault(address, []).append(frames)

    def receive(self, timeout: float) -> Received | None:
        return self._answers.popleft() if self._answers else None

    def reason(self, address: str) -> PeerError | None:
        return None

    def reset(self, address: str) -> None:
        self.open.pop(address, None)
        self.resets.append(address)

    def close(self) -> None:
        self.open.clear()
