"""Clients that break the rules: bare connections, a peer that speaks ZMTP by hand, readers that never read."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time

from p2pdl.protocol.messages import Envelope, Request
from p2pdl.wire import encode

WAIT = 60.0
"""Seconds for what does happen, however busy the machine is: only a failure takes so long."""

SIGNATURE = b"\xff\0\0\0\0\0\0\0\x01\x7f"
READY = b"\x05READY"
MORE, LONG, COMMAND = 1, 2, 4
"""Bits of the first byte of a ZMTP frame."""


class BareConnection:
    """A TCP connection that sends whatever it is told to.

    Args:
        address: `host:port` of the victim.
        buffer: Bytes that the system may hold for it to read; the system's choice where 0.
    """

    def __init__(self, address: str, buffer: int = 0) -> None:
        host, port = address.split(":")
        self._socket = socket.socket()
        if buffer:
            # Before it connects: the other side is told then how much it may send.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(WAIT)
        self._socket.connect((host, int(port)))

    def send(self, text: bytes | memoryview) -> bool:
        """Send; False if the other side has ended the connection, or takes nothing any more."""
        try:
            self._socket.sendall(text)
        except OSError:
            return False
        return True

    def seconds_to_close(self, longest: float = WAIT) -> float | None:
        """Seconds until the other side ends the connection, whatever it says before; None if it does not."""
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while (left := started + longest - time.monotonic()) > 0:
                self._socket.settimeout(left)
                try:
                    if not self._socket.recv(1 << 16):
                        break
                except TimeoutError:
                    return None
        return time.monotonic() - started

    def received(self, mark: bytes) -> bytes:
        """What has come once it holds a mark."""
        text = b""
        while mark not in text:
            piece = self._socket.recv(4096)
            if not piece:
                raise ConnectionError(f"the connection ended before {mark!r} had come, after {text!r}")
            text += piece
        return text

    def close(self) -> None:
        self._socket.close()


class BarePeer(BareConnection):
    """A connection that has shaken hands as a ZeroMQ socket does; its frames are then the test's own.

    Args:
        address: `host:port` of the victim.
        buffer: As of `BareConnection`.
    """

    def __init__(self, address: str, buffer: int = 0) -> None:
        super().__init__(address, buffer)
        self._ids = itertools.count(1)
        try:
            self.send(handshake(b"DEALER"))
            # Whoever sends a message before the other side's READY has come is dropped.
            self.received(READY)
        except BaseException:
            self.close()
            raise

    def ask(self, request: Request, node: str, cluster: str = "lab") -> bool:
        """Send a request as the protocol has it; nothing reads the reply."""
        header = encode(Envelope(next(self._ids), cluster, node, request))
        return self.send(frame(b"", MORE) + frame(header))


def handshake(kind: bytes) -> bytes:
    """What a ZeroMQ socket of some kind says first, by ZMTP 3.0 and without security."""
    greeting = SIGNATURE + b"\x03\0" + b"NULL".ljust(20, b"\0")
    properties = b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return greeting.ljust(64, b"\0") + frame(READY + properties, COMMAND)


def frame(body: bytes, flags: int = 0) -> bytes:
    """One ZMTP frame."""
    if len(body) > 255:
        return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body
