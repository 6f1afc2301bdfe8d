"""The server's connections to other members: made anew when they are silent, and let go when nobody needs them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from p2pdl.errors import PeerError
from p2pdl.transport.contract import ClientTransport, Frames, Received

SILENT_SECONDS = 5.0
"""A connection on which nothing has come for so long after a question is made anew: what is queued on it is old."""

DOUBTFUL_LIMIT = 128
"""Connections that wait for an answer, or lead to nobody who is needed, at most.

ZeroMQ has 1023 sockets for all of a process's connections; one that does not come about takes three of them, and tries
again for as long as it is there.
"""


@dataclass(slots=True)
class _Connection:
    """When something was asked on it last, and since when a question waits for an answer; None if none does."""

    asked_at: float
    silent_since: float | None = None


class Connections:
    """The connections of one client.

    Args:
        client: How to reach other nodes.

    Attributes:
        needed: Addresses whose connections are kept: of those that are there, or are to be found.
    """

    def __init__(self, client: ClientTransport) -> None:
        self._client = client
        self._open: dict[str, _Connection] = {}
        self.needed: Set[str] = frozenset()

    @property
    def is_silent(self) -> bool:
        """True while a question waits for an answer."""
        return any(connection.silent_since is not None for connection in self._open.values())

    def ask(self, address: str, frames: Frames, now: float) -> None:
        """Send a question.

        Args:
            address: `host:port`.
            frames: The question.
            now: Monotonic seconds.

        Raises:
            PeerError: It cannot be sent; there is no connection to the address any more.
        """
        connection = self._open.get(address)
        if connection is None:
            self._make_room()
            connection = self._open[address] = _Connection(now)
        connection.asked_at = now
        if connection.silent_since is None:
            connection.silent_since = now
        elif now - connection.silent_since > SILENT_SECONDS:
            self._client.reset(address)
            connection.silent_since = now
        try:
            self._client.send(address, frames)
        except PeerError:
            self.let_go(address)
            raise

    def receive(self, timeout: float) -> Received | None:
        """The next answer, or None after `timeout` seconds."""
        received = self._client.receive(timeout)
        if received is not None and received.address in self._open:
            self._open[received.address].silent_since = None
        return received

    def let_go(self, address: str) -> None:
        """End the connection to an address, if there is one; the next question makes another."""
        if self._open.pop(address, None) is not None:
            self._client.reset(address)

    def let_go_unneeded(self, now: float) -> None:
        """End the connections that are not needed, and on which nothing has been asked for a while.

        Args:
            now: Monotonic seconds.
        """
        for address, connection in list(self._open.items()):
            if address not in self.needed and now - connection.asked_at > SILENT_SECONDS:
                self.let_go(address)

    def forget_questions(self) -> None:
        """Wait for no answer to what has been asked so far."""
        for connection in self._open.values():
            connection.silent_since = None

    def _make_room(self) -> None:
        """Let there be room for one connection more: anybody can have this node ask at very many addresses."""
        doubtful = [
            (connection.asked_at, address)
            for address, connection in self._open.items()
            if connection.silent_since is not None or address not in self.needed
        ]
        surplus = len(doubtful) - DOUBTFUL_LIMIT + 1
        for _, address in sorted(doubtful)[: max(0, surplus)]:
            self.let_go(address)
