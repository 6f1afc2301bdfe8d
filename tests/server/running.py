"""The loop of a server process in a thread, over a real store and real sockets, with a time that the test owns."""

from __future__ import annotations

import threading

import zmq

from p2pdl.clock import VirtualClock
from p2pdl.protocol.messages import Envelope, RangeRequest, Request, SnapshotRequest
from p2pdl.protocol.serving import Serving
from p2pdl.server.answer import Answerer
from p2pdl.server.process import serve
from p2pdl.server.view import StoreView
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.store.reader import StoreReader
from p2pdl.transport.zeromq import ZmqServer
from p2pdl.wire import encode
from tests.processes import free_port
from tests.stores import dense_spec

SHARDS = 12
"""More MiB than the buffers of a connection over loopback take."""

SPEC = dense_spec(SHARDS * SHARD_ELEMENTS)


class RunningServer:
    """A server whose time passes only when told to.

    Args:
        store: The descriptor of its store.

    Attributes:
        address: Where it listens.
        clock: Its time.
        reader: Its end of the store.
        resets: How often it has dropped all connections.
    """

    def __init__(self, store: int) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.clock = VirtualClock()
        self.reader = StoreReader(store)
        self.resets = 0
        self._transport = ZmqServer(self.address)
        self._reset = self._transport.reset
        self._transport.reset = self._counted_reset  # type: ignore[method-assign]
        view = StoreView(self.reader)
        answerer = Answerer("lab", "alpha", Serving("lab", view))
        self._stopping = threading.Event()
        arguments = (self._transport, answerer, self.reader, view, self.clock, self._stopping.is_set)
        self._thread = threading.Thread(target=serve, args=arguments, name="p2pdl-test-server")
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def let_pass(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now() + seconds)

    def _counted_reset(self) -> None:
        self._reset()
        self.resets += 1

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._transport.close()
        self.reader.close()


class SlowReader:
    """A puller that asks for a whole version and never reads any of it."""

    def __init__(self, address: str, name: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvhwm, self._socket.rcvbuf = 1, 1 << 16
        self._socket.connect(f"tcp://{address}")
        self._name = name

    def ask_for_all(self) -> None:
        self._ask(1, SnapshotRequest(SPEC.digest))
        for number in range(SHARDS):
            self._ask(
                2, RangeRequest("", 1, number * SHARD_ELEMENTS, SHARD_ELEMENTS, "float32", (), number == SHARDS - 1)
            )

    def _ask(self, request_id: int, request: Request) -> None:
        self._socket.send_multipart([b"", encode(Envelope(request_id, "lab", self._name, request))])

    def close(self) -> None:
        self._socket.close()
        self._context.term()
