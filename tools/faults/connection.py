"""One connection through the proxy: two pumps between two sockets, each with the faults of its way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from tools.faults.faults import Traffic, Way

PIECE_BYTES = 1 << 16
PIECES_IN_FLIGHT = 64
"""Pieces that one way of a connection holds at most; a sender that is faster has to wait, as for any link."""

PIECE_SECONDS = 0.01
"""What a piece may take on a slow link, so that a change of its faults is felt soon."""

LATE_SECONDS = 0.1
"""What a busy machine may be late by and still keep the link's rate; after a longer pause nothing is made up for."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cut(Exception):
    """The connection ends here, for both sides."""


class Link:
    """One way of the link, which all connections share.

    Attributes:
        way: Its faults.
        traffic: What has passed.
    """

    def __init__(self, way: Way) -> None:
        self.way = way
        self.traffic = Traffic()
        self._free_at = 0.0

    async def carry(self, nbytes: int) -> None:
        """Wait for as long as so many bytes take."""
        clock = asyncio.get_running_loop()
        if clock.time() - self._free_at > LATE_SECONDS:
            self._free_at = clock.time()
        self._free_at += nbytes / self.way.bandwidth
        await asyncio.sleep(max(0.0, self._free_at - clock.time()))

    @property
    def piece_bytes(self) -> int:
        """Bytes that are carried at a time."""
        return int(max(1, min(PIECE_BYTES, self.way.bandwidth * PIECE_SECONDS)))


class Connection:
    """Carries bytes between a client and the target until both have ended, or it is cut.

    Args:
        client: The client's socket, which does not block.
        target: The target's, likewise.
        to_target: The way of the client's bytes.
        from_target: The way back.
        resets: Whether a cut is a reset.
        on_cut: Called if it is cut.
    """

    def __init__(
        self,
        client: socket.socket,
        target: socket.socket,
        to_target: Link,
        from_target: Link,
        resets: Callable[[], bool],
        on_cut: Callable[[], None],
    ) -> None:
        self._sockets = client, target
        self._there = _Pump(client, target, to_target, from_target)
        self._back = _Pump(target, client, from_target, to_target)
        self._resets = resets
        self._on_cut = on_cut
        self._ending = asyncio.Event()

    @property
    def has_hole(self) -> bool:
        """True if bytes have vanished which the way, as it is now, would have carried: TCP skips none."""
        return any(pump.has_hole and not pump.link.way.is_black_hole for pump in (self._there, self._back))

    def cut(self) -> None:
        """End it for both sides, soon."""
        self._ending.set()

    async def run(self) -> None:
        """Carry; the sockets are closed in the end."""
        reset = True
        try:
            async with asyncio.TaskGroup() as tasks:
                pumps = self._there, self._back
                cutting = tasks.create_task(self._wait_for_cut())
                await asyncio.wait([tasks.create_task(step()) for pump in pumps for step in (pump.take, pump.give)])
                # Whoever has vanished does not close connections either.
                if not any(pump.has_hole for pump in pumps):
                    cutting.cancel()
            reset = False
        except* (Cut, OSError):
            reset = self._resets()
            self._on_cut()
        finally:
            for end in self._sockets:
                close(end, reset=reset)

    async def _wait_for_cut(self) -> None:
        await self._ending.wait()
        raise Cut


class _Pump:
    """One way of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, link: Link, way_back: Link) -> None:
        self._source = source
        self._sink = sink
        self.link = link
        self._way_back = way_back
        self.has_hole = False
        self._place = 0
        self._in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_IN_FLIGHT)

    async def take(self) -> None:
        """Take what the source sends, up to its end."""
        clock = asyncio.get_running_loop()
        piece = b" "
        while piece:
            try:
                piece = await clock.sock_recv(self._source, PIECE_BYTES)
            except OSError:
                # That the source is gone is told the sink only if its bytes get there.
                if not self.link.way.is_black_hole:
                    raise
                piece = b""
            self.link.traffic.received += len(piece)
            await self._in_flight.put((clock.time() + self.link.way.latency, piece))

    async def give(self) -> None:
        """Give it to the sink, as far as the faults let it pass."""
        clock = asyncio.get_running_loop()
        while True:
            due, piece = await self._in_flight.get()
            await asyncio.sleep(max(0.0, due - clock.time()))
            if not piece:
                break
            while piece:
                size = self.link.piece_bytes
                await self.link.carry(len(piece[:size]))
                await self._deliver(piece[:size])
                piece = piece[size:]
        self.has_hole = self.has_hole or self.link.way.is_black_hole
        if not self.has_hole:
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)

    async def _deliver(self, piece: bytes) -> None:
        way, traffic = self.link.way, self.link.traffic
        if way.is_black_hole or self.has_hole:
            self.has_hole = True
            traffic.swallowed += len(piece)
            return
        passing = len(piece) if way.cut_after is None else max(0, way.cut_after - self._place)
        arriving, damaged = way.damaged(piece[:passing], self._place)
        self._place += len(arriving)
        try:
            await asyncio.get_running_loop().sock_sendall(self._sink, arriving)
        except OSError:
            # That the sink is gone is told the source only if what the sink says gets there.
            if not self._way_back.way.is_black_hole:
                raise
            self.has_hole = True
            return
        traffic.delivered += len(arriving)
        traffic.corrupted += damaged
        if way.cut_after is not None and self._place >= way.cut_after:
            raise Cut


def close(end: socket.socket, *, reset: bool) -> None:
    """Close a socket with a reset, or in peace."""
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        else:
            end.shutdown(socket.SHUT_WR)
            # What lies unread would turn the end into a reset.
            while end.recv(PIECE_BYTES):
                pass
    end.close()
