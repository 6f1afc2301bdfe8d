"""The transports behind one face, so that one suite holds for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from p2pdl.clock import VirtualClock
from p2pdl.transport.contract import ClientTransport, Frames
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from tests.processes import free_port

Handler = Callable[[list[memoryview]], Frames]

POLL_SECONDS = 0.02


class World(Protocol):
    """Servers and clients of one transport."""

    def new_address(self) -> str:
        """An address where nobody listens."""
        ...

    def serve(self, address: str, handler: Handler) -> None:
        """Answer the requests to an address."""
        ...

    def stop(self, address: str) -> None:
        """Answer no more."""
        ...

    def client(self) -> ClientTransport:
        """A new client."""
        ...

    def close(self) -> None:
        """End every server and client."""
        ...


class MemoryWorld:
    """The in-memory network."""

    def __init__(self) -> None:
        self._network = MemoryNetwork(VirtualClock())
        self._count = 0

    def new_address(self) -> str:
        self._count += 1
        return f"node{self._count}:1"

    def serve(self, address: str, handler: Handler) -> None:
        self._network.serve(address, lambda frames, now: handler(frames))

    def stop(self, address: str) -> None:
        self._network.stop(address)

    def client(self) -> ClientTransport:
        return self._network.client(self.new_address())

    def close(self) -> None:
        pass


class ZmqWorld:
    """ZeroMQ over loopback, each server in a thread."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._clients: list[ZmqClient] = []

    def new_address(self) -> str:
        return f"127.0.0.1:{free_port()}"

    def serve(self, address: str, handler: Handler) -> None:
        server, stopping = ZmqServer(address), threading.Event()

        def answer() -> None:
            while not stopping.is_set():
                request = server.receive(POLL_SECONDS)
                if request is not None:
                    server.reply(handler(request.frames))
            server.close()

        thread = threading.Thread(target=answer, name="p2pdl-test-server")
        thread.start()
        self._servers[address] = stopping, thread

    def stop(self, address: str) -> None:
        stopping, thread = self._servers.pop(address)
        stopping.set()
        thread.join()

    def client(self) -> ClientTransport:
        client = ZmqClient()
        self._clients.append(client)
        return client

    def close(self) -> None:
        for address in list(self._servers):
            self.stop(address)
        for client in self._clients:
            client.close()


WORLDS: dict[str, Callable[[], World]] = {"memory": MemoryWorld, "zeromq": ZmqWorld}
