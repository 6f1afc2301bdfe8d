"""How long a pull takes on a link of a given speed, against a bare TCP socket that sends the same float32 bytes.

Two hosts are joined by a shaped link. On one, p2pdl's own server process serves a vector like a model's weights, of
which each version differs a little from the one before; on the other, p2pdl's own requester pulls it. Transfers by TCP
and pulls alternate over the same versions, so that a machine whose speed drifts changes both alike. Needs root.
Command: python -m experiments.shaped_pull [--mbit 100 300] [--codec float32] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.network import ShapedNetwork
from p2pdl.clock import MonotonicClock
from p2pdl.errors import P2pdlError, ProcessDied
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

CODECS = ("float32", "bfloat16", "float16", "int8", "mean-threshold:int8", "top-k:0.01", "top-k:0.01:int8")
CLUSTER = "shaped"
PULL_PORT, TCP_PORT = 7001, 7002
WEIGHT_SIGMA, CHANGE_SIGMA = 0.05, 0.001
"""Standard deviations of the first version's elements, and of what each later version adds to them."""

PULL_SECONDS, SILENCE_SECONDS = 3600.0, 20.0
"""Deadlines of a pull: long enough for one shard at 1 Mbit/s, and short enough to notice a server that has died."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mbit", type=float, nargs="+", default=[100.0], help="rates of the link")
    parser.add_argument("--codec", choices=CODECS, action="append", help="how the pull encodes; may be repeated")
    parser.add_argument("--elements", type=int, default=20_000_000, help="float32 values of the vector")
    parser.add_argument("--repeats", type=int, default=5, help="measured pairs for each rate and codec")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(*arguments.mbit, arguments.elements, arguments.repeats) <= 0:
        parser.error("rates and counts have to be above zero")
    if arguments.role:
        role, lifeline, settings = json.loads(arguments.role)
        end_with_parent(lifeline)
        return serve(**settings) if role == "serve" else pull(**settings)
    try:
        figures = measure(arguments.mbit, arguments.codec or list(CODECS[:1]), arguments.elements, arguments.repeats)
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return 0


def measure(rates: list[float], codecs: list[str], elements: int, repeats: int) -> dict[str, Any]:
    """Measure every rate, in millions of bits a second, with every codec."""
    load = os.getloadavg()[0]
    with (
        ShapedNetwork(2) as network,
        Worker(network, 0, "serve", elements=elements, address=network.address(0)) as peer,
    ):
        rows = []
        for mbit in rates:
            network.shape(mbit)
            for codec in codecs:
                print(f"measuring {codec} at {mbit:g} Mbit/s ...", file=sys.stderr, flush=True)
                rows.append({"mbit": mbit, "codec": codec, **measure_pairs(network, peer, codec, elements, repeats)})
    return {"elements": elements, "repeats": repeats, "cores": os.cpu_count(), "load": load, "rows": rows}


def measure_pairs(network: ShapedNetwork, peer: Worker, codec: str, elements: int, repeats: int) -> dict[str, Any]:
    """Alternate transfers by TCP and pulls, each pair over a new version."""
    done: dict[str, list[dict[str, float]]] = {"tcp": [], "pull": []}
    peer.do("publish")
    with Worker(network, 1, "pull", elements=elements, address=network.address(0), codec=codec) as asker:
        for pair in range(1 + repeats):
            for kind in ("tcp", "pull") if pair % 2 else ("pull", "tcp"):
                done[kind].append(asker.do(kind))
            error = asker.do("compare")["rms_error"]
            peer.do("publish")
    # The first pair opens the connections, and a codec that sends differences has nothing to build on in it.
    tcp, pulls = (([one["seconds"] for one in done[kind][1:]]) for kind in ("tcp", "pull"))
    ratios = [a / b for a, b in zip(tcp, pulls, strict=True)]
    return {
        "tcp_seconds": tcp,
        "pull_seconds": pulls,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "payload_nbytes": statistics.median(one["nbytes"] for one in done["pull"][1:]),
        "rms_error": error,
    }


class Worker:
    """This program in another role on a host: it does what each line of its input says and answers with a line.

    Args:
        network: The hosts.
        host: Where it runs.
        role: `serve` or `pull`.
        settings: What the role's function takes.
    """

    def __init__(self, network: ShapedNetwork, host: int, role: str, **settings: Any) -> None:
        self._role = role
        self._lifeline = Lifeline()
        what = json.dumps([role, self._lifeline.reading, settings])
        self._process = network.run(
            host,
            [sys.executable, "-m", "experiments.shaped_pull", "--role", what],
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


def serve(elements: int, address: str) -> int:
    """Serve the vector by p2pdl and by TCP; each line of the input asks for a new version."""
    spec = layout(elements)
    random = np.random.default_rng(0)
    vector = WEIGHT_SIGMA * random.standard_normal(spec.size, np.float32)
    lifeline, store = Lifeline(), memory.create()
    server = start_server(CLUSTER, "server", f"{address}:{PULL_PORT}", store, lifeline, None)
    writer = StoreWriter(store, spec)
    listener = socket.create_server((address, TCP_PORT))
    threading.Thread(target=send_on_request, args=(listener, vector), daemon=True).start()

    def fill(target: Float32Vector) -> None:
        np.copyto(target, vector)

    for step, _ in enumerate(sys.stdin, 1):
        np.add(vector, CHANGE_SIGMA * random.standard_normal(spec.size, np.float32), out=vector)
        answer(version=writer.publish(fill, step=step, samples=step, loss=1.0))
    server.terminate()
    return server.wait()


def send_on_request(listener: socket.socket, vector: Float32Vector) -> None:
    """The bare TCP server: the whole vector for each byte that arrives."""
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(1):
                connection.sendall(vector.data.cast("B"))


def pull(elements: int, address: str, codec: str) -> int:
    """Fetch the vector by TCP or by a pull, as each line of the input says, and report how long that took."""
    spec = layout(elements)
    link = LinkSettings(codec, timeout=PULL_SECONDS, request_timeout=SILENCE_SECONDS)
    source = Source(spec, Link(link, shards_in(spec.size)), parts=1)
    requester = Requester(ZmqClient(), CLUSTER, "puller", MonotonicClock())
    inbox = Inbox(spec)
    inbox.expect(None)
    received = np.zeros(spec.size, np.float32)
    connection = socket.create_connection((address, TCP_PORT))
    for line in sys.stdin:
        match line.strip():
            case "tcp":
                answer(seconds=receive(connection, received), nbytes=received.nbytes)
            case "pull":
                order = source.order("server", f"{address}:{PULL_PORT}", inbox.accept, None, whole=False)
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


def show(figures: dict[str, Any]) -> None:
    """The figures as a table: medians, and the range of the ratios."""
    title = f"{4e-6 * figures['elements']:g} MB of float32, median of {figures['repeats']}"
    table = Table(
        *("Mbit/s", "codec", "MB", "TCP ms", "pull ms", "TCP/pull", "spread", "rms off"),
        title=title,
        caption=f"{figures['cores']} cores, load {figures['load']:.1f} before",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in figures["rows"]:
        table.add_row(
            f"{row['mbit']:g}",
            row["codec"],
            f"{row['payload_nbytes'] / 1e6:.1f}",
            f"{1e3 * statistics.median(row['tcp_seconds']):.0f}",
            f"{1e3 * statistics.median(row['pull_seconds']):.0f}",
            f"{row['ratio']:.3f}",
            f"{min(row['ratios']):.3f}-{max(row['ratios']):.3f}",
            f"{row['rms_error']:.1e}" if row["rms_error"] else "0",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
