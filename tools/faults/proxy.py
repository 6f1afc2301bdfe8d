"""A TCP proxy whose link has faults, which can be changed while connections are open."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from tools.faults.connection import Connection, Link, close
from tools.faults.faults import Counters, Faults

CONNECT_SECONDS = 5.0

Result = TypeVar("Result")


class FaultProxy:
    """Listens, and forwards each connection to the target, in a thread of its own.

    Args:
        target: `host:port` to forward to; nothing has to listen there yet.
        faults: What the link does at first.
        listen: `host:port` to listen on; port 0 takes a free one.

    Attributes:
        address: `host:port` where it listens.

    Raises:
        OSError: It cannot listen there.
        ValueError: An address is not `host:port`.
    """

    def __init__(self, target: str, faults: Faults | None = None, listen: str = "127.0.0.1:0") -> None:
        self._target = _resolved(target)
        self._faults = faults or Faults()
        self._to_target, self._from_target = Link(self._faults.to_target), Link(self._faults.from_target)
        self._counters = Counters()
        self._clients: set[socket.socket] = set()
        self._connections: set[Connection] = set()
        family, place = _resolved(listen)
        self._listener = socket.create_server(place, family=family, backlog=128)
        self._listener.setblocking(False)
        host, port = self._listener.getsockname()[:2]
        self.address = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] = self._loop.create_task(self._accept())
        self._thread = threading.Thread(target=self._run, name="p2pdl-fault-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def faults(self) -> Faults:
        """What the link does now."""
        return self._faults

    def change(self, faults: Faults) -> None:
        """Let the link have other faults, also for open connections; in force when this returns.

        Connections of which something has vanished are cut when their way is no black hole any more: TCP does not go
        on after a gap.
        """

        def apply() -> None:
            self._faults = faults
            self._to_target.way, self._from_target.way = faults.to_target, faults.from_target
            for connection in self._connections:
                if connection.has_hole:
                    connection.cut()

        self._do(apply)

    def latency(self, seconds: float) -> None:
        """Let bytes be late, both ways; other faults stay."""
        self._change_both(latency=seconds)

    def bandwidth(self, nbytes: float) -> None:
        """Carry so many bytes a second each way; other faults stay."""
        self._change_both(bandwidth=nbytes)

    def corrupt(self, every: int) -> None:
        """Damage one byte of so many, both ways; other faults stay."""
        self._change_both(corrupt_every=every)

    def half_open(self) -> None:
        """Let everything vanish and keep connections up; other faults stay."""
        self._change_both(is_black_hole=True)

    def heal(self) -> None:
        """Let the link have no faults."""
        self.change(Faults())

    def cut(self) -> None:
        """Cut all open connections, as `faults.reset` says; new ones are taken."""

        def apply() -> None:
            for connection in self._connections:
                connection.cut()

        self._do(apply)

    def counters(self) -> Counters:
        """What it has seen so far."""

        def read() -> Counters:
            self._counters.open = len(self._connections)
            self._counters.to_target = self._to_target.traffic
            self._counters.from_target = self._from_target.traffic
            return copy.deepcopy(self._counters)

        return self._do(read) if self._thread.is_alive() else read()

    def close(self) -> None:
        """Stop listening, and reset what is open."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join()

    def _change_both(self, **how: Any) -> None:
        now = self._faults
        self.change(replace(now, to_target=replace(now.to_target, **how), from_target=replace(now.from_target, **how)))

    def _do(self, call: Callable[[], Result]) -> Result:
        """Call something in the proxy's thread, which owns everything, and wait for it."""
        done: Future[Result] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
        finally:
            self._listener.close()
            # Those whose task had not begun.
            for client in self._clients:
                close(client, reset=True)
            self._loop.close()

    async def _accept(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                client, _ = await self._loop.sock_accept(self._listener)
                client.setblocking(False)
                self._counters.accepted += 1
                if self._faults.refuse:
                    self._refuse(client)
                else:
                    self._clients.add(client)
                    tasks.create_task(self._forward(client))

    async def _forward(self, client: socket.socket) -> None:
        family, place = self._target
        target = socket.socket(family)
        target.setblocking(False)
        try:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._loop.sock_connect(target, place)
            except (OSError, TimeoutError):
                self._refuse(client)
                return
            connection = Connection(
                client, target, self._to_target, self._from_target, lambda: self._faults.reset, self._on_cut
            )
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)
        finally:
            for end in (client, target):
                close(end, reset=True)
            self._clients.discard(client)

    def _refuse(self, client: socket.socket) -> None:
        self._counters.refused += 1
        close(client, reset=True)

    def _on_cut(self) -> None:
        self._counters.cut += 1


def _resolved(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The family and the place of `host:port`."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    return family, (str(place[0]), int(place[1]))
