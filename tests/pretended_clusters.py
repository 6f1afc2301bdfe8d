"""Small clusters for tests: a configuration on free ports, and nodes that only pretend to train."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pdl.config import Configuration, load
from p2pdl.node.cluster import NodeProgress
from p2pdl.node.node_output import Message

PRETENDER = Path(__file__).with_name("pretended_node.py")


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def write_configuration(folder: Path, nodes: int = 4, ports: Sequence[int] = (), more: str = "") -> Path:
    """Write a `peers.yaml` of node1, node2 and so on, on this machine.

    Args:
        folder: Where to.
        nodes: How many.
        ports: Their ports; free ones where not given.
        more: Further sections.
    """
    lines = ["cluster:", "  name: lab", "nodes:"]
    for number, port in enumerate(ports or free_ports(nodes), start=1):
        lines += [f"  - name: node{number}", f"    address: 127.0.0.1:{port}"]
    path = folder / "peers.yaml"
    path.write_text("\n".join(lines) + "\n" + more)
    return path


def configuration(folder: Path, nodes: int = 4, more: str = "") -> Configuration:
    """The same, read."""
    return load(write_configuration(folder, nodes, more=more))


def pretend(folder: Path, roles: dict[str, str]) -> Callable[[str, int], list[str]]:
    """A `CommandFor` whose nodes play roles of `pretended_node`.

    Args:
        folder: The run's folder, `runs/<cluster>`.
        roles: A role by the name of the node; `done` for the others.
    """

    def command(name: str, lifeline: int) -> list[str]:
        return [sys.executable, "-S", str(PRETENDER), roles.get(name, "done"), name, str(folder), str(lifeline)]

    return command


def summary(name: str, merged: Sequence[str] = (), **figures: object) -> dict[str, object]:
    """A node's summary with what the cluster's needs of it."""
    merge = {"nodes": list(merged), "missing": {}} if merged else None
    return {
        "node": name,
        "strategy": "gossip",
        "state": "done",
        "test_loss": 0.25,
        "test_accuracy": 0.9,
        "before_final_merge": {"test_loss": 0.5, "test_accuracy": 0.8},
        "final_merge": merge,
        **figures,
    }


def leave_results(folder: Path, name: str, merged: Sequence[str] = (), **figures: object) -> None:
    """Write what a node leaves: its summary, and a model file that names it."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "model.keras").write_text(f"model of {name}")
    (folder / name / "summary.json").write_text(json.dumps(summary(name, merged, **figures)))


class Recording:
    """An observer that remembers everything, and sends signals to this process at given messages.

    Args:
        signals: For each text the signal to send when so many nodes have written it.
    """

    def __init__(self, signals: dict[str, tuple[int, signal.Signals]] | None = None) -> None:
        self.messages: list[Message] = []
        self.last: Sequence[NodeProgress] = ()
        self._signals = signals or {}

    @property
    def texts(self) -> list[str]:
        """Every message as people see it."""
        return [str(message) for message in self.messages]

    def message(self, message: Message) -> None:
        """See `Observer.message`."""
        self.messages.append(message)
        wanted, number = self._signals.get(message.text, (0, signal.SIGINT))
        if wanted and sum(other.text == message.text for other in self.messages) == wanted:
            os.kill(os.getpid(), number)

    def progress(self, nodes: Sequence[NodeProgress]) -> None:
        """See `Observer.progress`."""
        self.last = nodes
