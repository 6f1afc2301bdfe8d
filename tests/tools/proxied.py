"""A connection through a fault proxy, with both of its ends in the test's hands."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tools.faults import FaultProxy, Faults

WAIT = 60.0
"""Seconds for what does happen, however busy the machine is: only a failure takes so long."""

QUIET = 0.2
"""Seconds in which nothing may come."""


@dataclass
class Pair:
    """Both ends of a connection through a proxy."""

    proxy: FaultProxy
    client: socket.socket
    target: socket.socket


class Place:
    """A target that takes connections when told to, and the proxy before it."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT)
        self.proxy = FaultProxy(f"127.0.0.1:{self.listener.getsockname()[1]}", faults)

    def dial(self) -> socket.socket:
        host, port = self.proxy.address.split(":")
        return socket.create_connection((host, int(port)), timeout=WAIT)

    @contextlib.contextmanager
    def pair(self) -> Iterator[Pair]:
        with self.dial() as client:
            target, _ = self.listener.accept()
            target.settimeout(WAIT)
            with target:
                yield Pair(self.proxy, client, target)

    def close(self) -> None:
        self.proxy.close()
        self.listener.close()


@contextlib.contextmanager
def place(faults: Faults | None = None) -> Iterator[Place]:
    with contextlib.closing(Place(faults)) as made:
        yield made


def received(end: socket.socket, count: int = 1 << 30) -> bytes:
    """What comes up to the end of the stream, or so many bytes of it."""
    text = b""
    while len(text) < count and (piece := end.recv(min(1 << 16, count - len(text)))):
        text += piece
    return text


def is_silent(end: socket.socket) -> bool:
    """Whether nothing comes, no end either."""
    end.settimeout(QUIET)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WAIT)
    return False


def is_reset(end: socket.socket) -> bool:
    """Whether the connection ends with a reset."""
    try:
        received(end)
    except ConnectionResetError:
        return True
    return False


def is_refused(proxy: FaultProxy) -> bool:
    """Whether a new connection is reset, be it before the system has reported it as made."""
    host, port = proxy.address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=WAIT) as client:
            return is_reset(client)
    except ConnectionResetError:
        return True
