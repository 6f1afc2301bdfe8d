"""What may listen on a node's port in tests of the check: nodes that answer as told, and things that are none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import zmq

from p2pdl.protocol.messages import Envelope, StatusReply
from p2pdl.protocol.serving import Serving
from p2pdl.spec import Snapshot, WeightSpec
from p2pdl.wire import decode, encode

Handler = Callable[[bytes], list[bytes]]
"""From the header of a request to the frames of its reply."""

POLL_MS = 10


class Quiet:
    """What a node is that has built its model and does nothing; a `NodeView`.

    Args:
        spec: The model's layout; None before it is built.
    """

    def __init__(self, spec: WeightSpec | None) -> None:
        self._spec = spec

    def incarnation(self) -> str:
        return "a"

    def layout(self) -> WeightSpec | None:
        return self._spec

    def newest_version(self) -> int | None:
        return None

    def load(self) -> Snapshot | None:
        return None

    def status(self, now: float) -> StatusReply:
        return StatusReply("a", "training", 5, 20, 320, 0.5, 0.25, {}, ())


def node_like(spec: WeightSpec | None, settings: bytes, cluster: str = "lab", node: str = "node2") -> Handler:
    """Answers as a node does.

    Args:
        spec: Its model.
        settings: JSON of its shared settings; empty for a script's node.
        cluster: Its cluster.
        node: Its name.
    """
    serving = Serving(cluster, Quiet(spec), shared_settings=settings)

    def handle(header: bytes) -> list[bytes]:
        envelope = decode(header)
        reply, payload = serving.on_request(envelope, 0.0)
        return [encode(Envelope(envelope.id, cluster, node, reply)), *map(bytes, payload)]

    return handle


@contextlib.contextmanager
def replying(handler: Handler) -> Iterator[int]:
    """The port of a REP socket of ZeroMQ."""
    ending = threading.Event()
    with zmq.Context() as context, context.socket(zmq.REP) as replier:
        replier.linger = 0
        port = replier.bind_to_random_port("tcp://127.0.0.1")

        def run() -> None:
            while not ending.is_set():
                if replier.poll(POLL_MS):
                    replier.send_multipart(handler(replier.recv_multipart()[0]))

        thread = threading.Thread(target=run, name="p2pdl-test-replier")
        thread.start()
        try:
            yield port
        finally:
            ending.set()
            thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """The port of a program that takes connections and never says anything, as one that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def talking(converse: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a program that does this with each connection, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ending = threading.Event()

        def run() -> None:
            while not ending.is_set():
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5.0)
                    if connection.recv(1, socket.MSG_PEEK):
                        converse(connection)

        thread = threading.Thread(target=run, name="p2pdl-test-talker")
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ending.set()
            socket.create_connection(listening.getsockname()).close()
            thread.join()


@contextlib.contextmanager
def http_server() -> Iterator[int]:
    """The port of a web server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, name="p2pdl-test-web")
        thread.start()
        try:
            yield web.server_port
        finally:
            web.shutdown()
            thread.join()
