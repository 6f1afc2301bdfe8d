"""Real nodes for tests: `p2pdl node` processes over a configuration written for the occasion."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerError
from p2pdl.protocol.messages import Request, SpecRequest, StatusReply, StatusRequest
from p2pdl.puller.requests import Requester
from p2pdl.spec import WeightSpec
from p2pdl.transport.zeromq import ZmqClient
from tests.processes import ROOT, free_port, is_running, wait_until

CHILDREN = {
    "p2pdl.server": "server",
    "p2pdl.server.parameter_process": "server",
    "p2pdl.node.trainer_process": "trainer",
}
"""Modules that a supervisor's children run, and what they are."""

START_SECONDS = 180.0
"""TensorFlow takes seconds to load, and longer on a busy machine."""


@dataclass
class Lab:
    """A folder with a `peers.yaml` on free ports.

    Attributes:
        folder: The folder.
        addresses: `host:port` of each node.
    """

    folder: Path
    addresses: dict[str, str]

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.folder / "peers.yaml"

    def summary(self, node: str) -> dict[str, Any]:
        """The summary that a node left."""
        return json.loads((self.folder / "runs" / "lab" / node / "summary.json").read_text())

    def log(self, node: str) -> str:
        """Everything that a node said."""
        return (self.folder / "runs" / "lab" / node / "node.log").read_text()

    def checkpoint_folder(self, node: str) -> Path:
        """Where a node saves."""
        return self.folder / "runs" / "lab" / node / "checkpoints"

    def checkpoints(self, node: str) -> dict[int, Path]:
        """The checkpoints of a node by their steps, the oldest first."""
        found = sorted(self.checkpoint_folder(node).glob("step-*.ckpt"))
        return {int(path.stem.removeprefix("step-")): path for path in found}

    def ask(self, node: str, request: Request, timeout: float = 1.0) -> tuple[Any, list[memoryview]]:
        """Ask a node something over the wire."""
        requester = Requester(ZmqClient(), "lab", "test", MonotonicClock())
        try:
            return requester.ask(self.addresses[node], request, timeout)
        finally:
            requester.close()

    def spec(self, node: str) -> WeightSpec:
        """The layout of a node's model."""
        _, frames = self.ask(node, SpecRequest())
        rows = [row.split("\t") for row in b"".join(frames).decode().split("\n")]
        shapes = [tuple(int(size) for size in row[1].split("x") if size != "scalar") for row in rows]
        return WeightSpec.layout(
            [(row[0], shape, row[2], row[4] == "trainable") for row, shape in zip(rows, shapes, strict=True)]
        )

    def status(self, node: str) -> StatusReply | None:
        """A node's status, or None if it does not answer."""
        try:
            return self.ask(node, StatusRequest())[0]
        except PeerError:
            return None

    def has_reached(self, node: str, step: int) -> bool:
        """Whether a node has done so many steps."""
        status = self.status(node)
        return status is not None and status.step >= step

    def trains(self, node: str, trainer: int) -> bool:
        """Whether a trainer process of a node trains."""
        status = self.status(node)
        return status is not None and status.state == "training" and status.figures.get("process") == trainer

    def port_is_free(self, node: str) -> bool:
        """Whether a node's port is free. A killed process of several threads gives it up a moment after its end."""
        host, port = self.addresses[node].split(":")
        try:
            with socket.create_server((host, int(port))):
                return True
        except OSError:
            return False


@dataclass
class NodeProcess:
    """A running `p2pdl node`."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def said(self) -> str:
        """What it wrote on the terminal."""
        return self.output.read_text()

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def children(self) -> dict[str, int]:
        """Ids of its `server` and `trainer` processes."""
        found = {}
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == self.process.pid:
                    command = Path(f"/proc/{name}/cmdline").read_text().split("\0")
                    # One that has only been forked has the supervisor's command still.
                    if command[2] in CHILDREN:
                        found[CHILDREN[command[2]]] = int(name)
        return found


def make_lab(folder: Path, nodes: int, **settings: dict[str, Any]) -> Lab:
    """Write a configuration for `nodes` nodes named node1, node2, ...; further sections as keywords."""
    addresses = {f"node{n + 1}": f"127.0.0.1:{free_port()}" for n in range(nodes)}
    configuration = {
        "cluster": {"name": "lab"},
        "nodes": [{"name": name, "address": address} for name, address in addresses.items()],
        "model": {"name": "mlp", "width": 0.1},
        **settings,
    }
    lab = Lab(folder, addresses)
    lab.file.write_text(json.dumps(configuration))
    return lab


@contextlib.contextmanager
def node(
    lab: Lab, name: str | None, *arguments: str, prefix: Sequence[str] = (), **environment: str
) -> Iterator[NodeProcess]:
    """Run `p2pdl node`; whatever happens, none of its processes is left.

    Args:
        lab: Its cluster.
        name: Its name; None to let it find itself.
        *arguments: Further arguments of the command.
        prefix: A command that runs the one behind it in its own place.
        **environment: Further variables of its environment.
    """
    output = lab.folder / f"output-{name or ''}-{len(list(lab.folder.iterdir()))}"
    command = [*prefix, sys.executable, "-m", "p2pdl", "node", "--config", str(lab.file), *arguments]
    if name:
        command += ["--name", name]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    running = NodeProcess(process, output)
    try:
        yield running
    finally:
        descendants = running.children()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert wait_until(lambda: not any(is_running(pid) for pid in descendants.values()), 10.0)
