"""A run as it was left: of each node what it recorded, and what of it is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pdl.types import JsonObject, NodeId

Column = NDArray[np.float64]
"""One figure of every line, shape (lines,); NaN where it is not known."""

FIGURES = (
    *("step", "seconds", "evaluation_seconds", "train_loss", "smoothed_loss", "test_accuracy", "bytes_received"),
    *("compute_seconds", "publish_seconds", "merge_seconds", "wait_seconds", "pull_seconds"),
)
"""The figures of `metrics.jsonl` that pictures are drawn from."""


@dataclass(frozen=True)
class Lines:
    """The lines of one `metrics.jsonl`, those that were written a second time only once.

    Attributes:
        columns: The figures by name, in seconds, bytes or steps; steps ascend.
        last: The newest line; empty without one.
        pulls: Merges with each peer, by its name.
        missing: What could not be read, in words.
    """

    columns: Mapping[str, Column]
    last: JsonObject = field(default_factory=dict)
    pulls: Mapping[NodeId, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["step"])

    @property
    def training_seconds(self) -> Column:
        """The time that has passed without that of evaluations, which a run may have none of."""
        result: Column = self.columns["seconds"] - np.nan_to_num(self.columns["evaluation_seconds"])
        return result


NO_LINES = Lines({name: np.empty(0) for name in FIGURES})


@dataclass(frozen=True)
class NodeRun:
    """What one node has left.

    Attributes:
        name: The node.
        is_server: Whether it is a parameter server, which writes no `metrics.jsonl`.
        summary: Its `summary.json`; empty if there is none.
        lines: Its `metrics.jsonl`.
        configuration: Its `config.json`; empty if there is none.
        step_seconds: The length of each step in seconds, out of its timeline; empty without one.
        missing: What is not there, in words.
        environment: Its `environment.json`: what it ran on; empty if there is none.
    """

    name: NodeId
    is_server: bool
    summary: JsonObject
    lines: Lines
    configuration: JsonObject
    step_seconds: Column
    missing: tuple[str, ...]
    environment: JsonObject = field(default_factory=dict)

    def figure(self, name: str) -> float | None:
        """A number of the summary, or else of the last line; None if neither has it."""
        for source in (self.summary, self.lines.last):
            value = source.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return value
        return None

    @property
    def state(self) -> str:
        """How it has ended: `done`, `stopped`, `failed`, or `no summary`."""
        return str(self.summary.get("state", "no summary"))


@dataclass(frozen=True)
class Run:
    """A cluster's run, or one node's.

    Attributes:
        title: What it is called beside others.
        folder: Where it is.
        cluster: The cluster's name; empty if nothing says it.
        strategy: `gossip`, `parameter-server`, `single`; empty if nothing says it.
        seconds: How long it took, the start of the processes included; None where only the nodes know.
        consensus: Accuracy and loss of the consensus model, and its nodes; None if there is none.
        nodes: Its nodes, servers first.
        missing: What is not there, in words.
    """

    title: str
    folder: Path
    cluster: str
    strategy: str
    seconds: float | None
    consensus: JsonObject | None
    nodes: tuple[NodeRun, ...]
    missing: tuple[str, ...]

    @property
    def workers(self) -> tuple[NodeRun, ...]:
        """The nodes that train."""
        return tuple(node for node in self.nodes if not node.is_server)
