"""Looks at the nodes of a storm while they run, and at what they have left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.training_figures import read_lines
from p2pdl.node.cluster_status import ask_nodes
from p2pdl.types import NodeId
from tools.storm.cluster import CLUSTER, StormNode
from tools.storm.observations import Ending, Lines, View, disagreements
from tools.storm.processes import Sample, marked, sample, stores

SAMPLE_SECONDS = 1.0
ASK_SECONDS = 1.0
"""How long a node may take to say whom it sees; one that takes longer is asked again."""


class Sampler:
    """Looks at every process of the nodes about once a second.

    Args:
        nodes: Whose.

    Attributes:
        samples: What was seen.
    """

    def __init__(self, nodes: Iterable[StormNode]) -> None:
        self._nodes = list(nodes)
        self._next = 0.0
        self.samples: list[Sample] = []

    def look(self) -> None:
        """Look, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SAMPLE_SECONDS
        for node in self._nodes:
            for role, process in node.processes().items():
                if (seen := sample(node.name, role, process)) is not None:
                    self.samples.append(seen)


def are_training(nodes: Iterable[StormNode]) -> bool:
    """Whether every node has something to come back to: a checkpoint."""
    return all(any((node.folder / "checkpoints").glob("*.ckpt")) for node in nodes)


def views(nodes: Mapping[NodeId, StormNode]) -> list[View]:
    """How each node sees the others, asked past the proxies."""
    asked = ask_nodes(CLUSTER, {name: node.bind for name, node in nodes.items()}, ASK_SECONDS)
    found = []
    for node in asked:
        rows = {row.get("name"): row for row in node.status.peers} if node.status else {}
        found += [View(node.name, other, str(rows.get(other, {}).get("member", ""))) for other in nodes]
    return found


def unlike_views(nodes: Mapping[NodeId, StormNode]) -> list[str]:
    """What the live nodes do not agree on now."""
    live = [name for name, node in nodes.items() if node.supervisor is not None]
    return disagreements(live, views(nodes))


def stores_and_nodes(nodes: Mapping[NodeId, StormNode], mark: str) -> tuple[int, int] | None:
    """Stores in memory and live nodes; None if no node lives."""
    live = sum(node.supervisor is not None for node in nodes.values())
    return (len(stores(marked(mark))), live) if live else None


def lines_of(nodes: Mapping[NodeId, StormNode]) -> dict[NodeId, Lines]:
    """The lines that each node has left."""
    return {name: read_lines(node.folder / "metrics.jsonl") for name, node in nodes.items()}


def ending_of(node: StormNode) -> Ending:
    """How a node has ended."""
    summary = node.summary()
    merged = summary.get("final_merge") or {}
    code = None if node.supervisor is not None or not node.exit_codes else node.exit_codes[-1]
    if code is not None and node.is_done:
        # Killed between its last deed and its end: it had done everything.
        code = 0
    return Ending(
        code, summary.get("state", ""), summary.get("steps", 0), summary.get("test_accuracy"), merged.get("nodes", [])
    )


def temporary_files(folder: Path) -> list[str]:
    """Files below a folder that were to be there for a moment only."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp*"))


def own_things() -> dict[str, int]:
    """Descriptors and threads of this process."""
    return {"descriptors": len(list(Path("/proc/self/fd").iterdir())), "threads": threading.active_count()}
