"""One host's end of a measurement: `python -m tools.lab.transfer serve|from|to|ping ADDRESS ...`, by plain TCP.

The receiver keeps the time, from the first byte after the warm-up to the last one: what a queue lets pass at once in
the beginning, and TCP's slow start, do not count.
"""

from __future__ import annotations

import socket
import statistics
import struct
import sys
import time

PIECE_BYTES = 1 << 18
REQUEST, SECONDS = struct.Struct("!cQQ"), struct.Struct("!d")
"""What the asker sends: f, t or p for from, to or ping, the bytes of the warm-up and the bytes after it; and how long
the latter took."""

PINGS = 7


def serve(address: str) -> None:
    """Take one connection, and do what it asks for."""
    host, port = address.rsplit(":", 1)
    with socket.create_server((host, int(port))) as listener:
        print("listening", flush=True)
        connection, _ = listener.accept()
    with connection:
        kind, warm_up, count = REQUEST.unpack(receive(connection, REQUEST.size))
        if kind == b"f":
            send(connection, warm_up + count)
        elif kind == b"t":
            connection.sendall(SECONDS.pack(timed(connection, warm_up, count)))
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(count):
                connection.sendall(receive(connection, 1))
        connection.recv(1)


def ask(kind: str, address: str, warm_up: int, count: int) -> float:
    """Seconds that so many bytes took from or to the server, or the median one of a byte there and back."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(REQUEST.pack(kind[0].encode(), warm_up, PINGS if kind == "ping" else count))
        if kind == "from":
            return timed(connection, warm_up, count)
        if kind == "to":
            send(connection, warm_up + count)
            [seconds] = SECONDS.unpack(receive(connection, SECONDS.size))
            return float(seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return statistics.median([round_trip(connection) for _ in range(PINGS)])


def round_trip(connection: socket.socket) -> float:
    """Seconds of one byte there and back."""
    started = time.perf_counter()
    connection.sendall(b"p")
    receive(connection, 1)
    return time.perf_counter() - started


def send(connection: socket.socket, count: int) -> None:
    """Send so many bytes."""
    piece = bytes(PIECE_BYTES)
    while count:
        connection.sendall(piece[:count])
        count -= min(count, PIECE_BYTES)


def timed(connection: socket.socket, warm_up: int, count: int) -> float:
    """Receive a warm-up, and the seconds that so many bytes after it take."""
    skip(connection, warm_up)
    started = time.perf_counter()
    skip(connection, count)
    return time.perf_counter() - started


def skip(connection: socket.socket, count: int) -> None:
    """Receive so many bytes and no more."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    while count:
        came = connection.recv_into(buffer[: min(count, PIECE_BYTES)])
        if not came:
            raise ConnectionError("the other end has closed the connection")
        count -= came


def receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes."""
    text = b""
    while len(text) < count:
        piece = connection.recv(count - len(text))
        if not piece:
            raise ConnectionError("the other end has closed the connection")
        text += piece
    return text


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(ask(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])), flush=True)
