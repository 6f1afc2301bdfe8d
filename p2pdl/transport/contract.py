"""The contract of every transport: multipart messages, one reply to each request, nothing ever blocks for long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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

    def reset(self, address: str) -> None:
        """Drop the connection to an address and everything queued on it; the next `send` makes a new one."""
        ...

    def close(self) -> None:
        """Drop every connection at once."""
        ...


class ServerTransport(Protocol):
    """Receives requests on one address and answers each before it receives the next."""

    def receive(self, timeout: float) -> list[memoryview] | None:
        """The next request, or None after `timeout` seconds."""
        ...

    def reply(self, frames: Frames) -> None:
        """Answer the request just received."""
        ...

    def close(self) -> None:
        """Stop listening and drop every connection."""
        ...
