"""The contract of every transport: multipart messages, one reply to each request, nothing ever blocks for long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from p2pdl.errors import PeerError

Frames = Sequence[Any]
"""Bytes-like objects; arrays are sent without a copy and must not change afterwards."""


@dataclass(frozen=True, slots=True)
class Received:
    """A reply and where it came from.

    Attributes:
        address: The address that the request was sent to.
        frames: The frames of the reply, header first; read-only.
    """

    address: str
    frames: list[memoryview]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who has sent a request, as its key proves.

    Attributes:
        name: The name for which the key is listed; empty if it is not listed any more.
        operator: True if it may ask how the node is, but not take part.
    """

    name: str
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and who has sent it.

    Attributes:
        frames: Its frames, header first.
        asker: Who; None from a transport that cannot tell.
    """

    frames: list[memoryview]
    asker: Asker | None = None


class ClientTransport(Protocol):
    """Sends requests to many addresses and receives their replies in any order.

    Assumptions: a request may vanish without a sign, and so may a reply; replies of one address come in the order
    of its requests; nothing is delivered twice. Used by one thread.
    """

    def send(self, address: str, frames: Frames) -> None:
        """Queue a request. An address that does not answer is no error here: the caller's deadline handles it."""
        ...

    def receive(self, timeout: float) -> Received | None:
        """The next reply, or None after `timeout` seconds."""
        ...

    def reason(self, address: str) -> PeerError | None:
        """Why nothing comes from an address, as far as the connection tells; None where it tells nothing."""
        ...

    def reset(self, address: str) -> None:
        """Drop the connection to an address and everything queued on it; the next `send` makes a new one."""
        ...

    def close(self) -> None:
        """Drop every connection at once."""
        ...


class ServerTransport(Protocol):
    """Receives requests on one address and answers each before it receives the next."""

    def receive(self, timeout: float) -> Request | None:
        """The next request, or None after `timeout` seconds."""
        ...

    def reply(self, frames: Frames) -> None:
        """Answer the request just received."""
        ...

    def close(self) -> None:
        """Stop listening and drop every connection."""
        ...
