"""A vector that is served by p2pdl and by bare TCP, and fetched from either, by processes on hosts of a network.

The vector is like a model's weights, and each version differs a little from the one before. The process in the role
`serve` has p2pdl's own server process serve it; the one in the role `send` writes its float32 bytes to a TCP socket;
the one in the role `fetch` has p2pdl's own requester pull it, or reads it from that socket.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.hosts import Hosts
from p2pdl.clock import MonotonicClock
from p2pdl.errors import ProcessDied
from p2pdl.lifeline import end_with_parent
from p2pdl.node.children import Lifeline, start_server
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.puller.source import Source
from p2pdl.spec import WeightSpec, shards_in
from p2pdl.store import memory
from p2pdl.store.writer import StoreWriter
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import Float32Vector

CLUSTER = "shaped"
WEIGHT_SIGMA, CHANGE_SIGMA = 0.05, 0.001
"""Standard deviations of the first version's elements, and of what each later version adds to them."""

PULL_SECONDS, SILENCE_SECONDS = 3600.0, 20.0
"""Deadlines of a pull: long enough for one shard at 1 Mbit/s, and short enough to notice a server that has died."""


def main() -> int:
    role, lifeline, settings = json.loads(sys.argv[1])
    end_with_parent(lifeline)
    return {"serve": serve, "send": send, "fetch": fetch}[role](**settings)


class Worker:
    """This program in a role: it does what each line of its input says and answers with a line.

    Args:
        hosts: Where it runs: on the one that is named as the role.
        role: `serve`, `send` or `fetch`.
        settings: What the role's function takes.
    """

    def __init__(self, hosts: Hosts, role: str, **settings: Any) -> None:
        self._role = role
        self._lifeline = Lifeline()
        what = json.dumps([role, self._lifeline.reading, settings])
        self._process = hosts.run(
            role,
            [sys.executable, "-m", "experiments.pulled_vector", what],
            pass_fds=[self._lifeline.reading],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            process_group=0,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """End it: it stops at the end of its input, and at once after an error here."""
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._lifeline.close()

    def do(self, what: str) -> dict[str, float]:
        """Let it do one thing and return what it says of that.

        Raises:
            ProcessDied: It has ended instead.
        """
        with contextlib.suppress(BrokenPipeError):
            print(what, file=self._process.stdin, flush=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ProcessDied(f"the process that should {self._role} has ended", "the lines above say why")
        said: dict[str, float] = json.loads(line)
        return said


def serve(elements: int, bind: str) -> int:
    """Serve the vector by p2pdl; each line of the input asks for a new version."""
    spec = layout(elements)
    lifeline, store = Lifeline(), memory.create()
    server = start_server(CLUSTER, "server", bind, store, lifeline, None).ready()
    writer = StoreWriter(store, spec)
    for step, (_, vector) in enumerate(zip(sys.stdin, versions(spec.size), strict=False), 1):

        def fill(target: Float32Vector, vector: Float32Vector = vector) -> None:
            np.copyto(target, vector)

        answer(version=writer.publish(fill, step=step, samples=step, loss=1.0))
    server.terminate()
    return server.wait()


def send(elements: int, bind: str) -> int:
    """Send the vector by TCP to whoever asks; each line of the input asks for a new version."""
    host, port = bind.split(":")
    listener = socket.create_server((host, int(port)))
    changing = versions(elements)
    vector = next(changing)
    threading.Thread(target=send_on_request, args=(listener, vector), daemon=True).start()
    for number, _ in enumerate(sys.stdin):
        if number:
            next(changing)
        answer(version=number + 1)
    return 0


def versions(elements: int) -> Iterator[Float32Vector]:
    """The vector, in each version; always the same array, and the same versions in every process."""
    random = np.random.default_rng(0)
    vector = WEIGHT_SIGMA * random.standard_normal(elements, np.float32)
    while True:
        np.add(vector, CHANGE_SIGMA * random.standard_normal(elements, np.float32), out=vector)
        yield vector


def send_on_request(listener: socket.socket, vector: Float32Vector) -> None:
    """The bare TCP server: the whole vector for each byte that arrives."""
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(1):
                connection.sendall(vector.data.cast("B"))


def fetch(elements: int, server: str, sender: str, codec: str) -> int:
    """Fetch the vector by TCP or by a pull, as each line of the input says, and report how long that took.

    Args:
        elements: Of the vector.
        server: `host:port` of the one who serves it.
        sender: The same of the one who sends it.
        codec: How a pull encodes.
    """
    spec = layout(elements)
    link = LinkSettings(codec, timeout=PULL_SECONDS, request_timeout=SILENCE_SECONDS)
    source = Source(spec, Link(link, shards_in(spec.size)), parts=1)
    requester = Requester(ZmqClient(), CLUSTER, "puller", MonotonicClock())
    inbox = Inbox(spec)
    inbox.expect(None)
    received = np.zeros(spec.size, np.float32)
    host, port = sender.split(":")
    connection = socket.create_connection((host, int(port)))
    for line in sys.stdin:
        match line.strip():
            case "tcp":
                answer(seconds=receive(connection, received), nbytes=received.nbytes)
            case "pull":
                order = source.order("server", server, inbox.accept, None, whole=False)
                outcome = requester.pull(
                    order.peer, order.address, spec, order.settings, order.sink, decoder=order.decoder
                )
                if outcome.error is not None:
                    print(outcome.error, file=sys.stderr)
                    return outcome.error.exit_code
                answer(seconds=outcome.seconds, nbytes=outcome.payload_nbytes)
            case "compare":
                answer(rms_error=float(np.sqrt(np.mean(np.square(inbox.vector - received), dtype=np.float64))))
    connection.close()
    requester.close()
    return 0


def receive(connection: socket.socket, vector: Float32Vector) -> float:
    """Ask the bare TCP server for the vector; the seconds from the question to the last byte."""
    buffer = vector.data.cast("B")
    filled = 0
    started = time.perf_counter()
    connection.sendall(b"?")
    while filled < len(buffer):
        count = connection.recv_into(buffer[filled:])
        if not count:
            raise ConnectionError("the TCP server has closed the connection")
        filled += count
    return time.perf_counter() - started


def layout(elements: int) -> WeightSpec:
    """A model with one variable."""
    return WeightSpec.layout([("weights", (elements,), "float32", True)])


def answer(**values: object) -> None:
    """Write a line of JSON to whoever asked."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
