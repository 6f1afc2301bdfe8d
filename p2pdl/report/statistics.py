"""Figures of a run: the length of its steps, where its time went, what travelled, who merged from whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pdl.report.run import Column, Lines, NodeRun, Run
from p2pdl.types import NodeId

PHASES = ("compute", "publish", "merge", "wait", "pull", "rest")
"""Where the training's time goes, in the order of the pictures."""


def step_times(node: NodeRun) -> tuple[Column, Column]:
    """How long steps took, the exchange included.

    Returns:
        Seconds, and how many steps took each: single steps out of the timeline, or else the means between two lines.
    """
    if len(node.step_seconds):
        return node.step_seconds, np.ones(len(node.step_seconds))
    return mean_step_times(node.lines)


def mean_step_times(lines: Lines) -> tuple[Column, Column]:
    """The mean seconds of a step between each line and the next, and how many steps that were."""
    seconds, steps = np.diff(lines.training_seconds), np.diff(lines.columns["step"])
    good = (seconds > 0) & (steps > 0)
    return seconds[good] / steps[good], steps[good]


def weighted_quantile(values: Column, weights: Column, share: float) -> float | None:
    """The least value that at least this share of the weight does not exceed; None without values.

    Args:
        values: Shape (n,).
        weights: Positive, shape (n,).
        share: In (0, 1].
    """
    if not len(values):
        return None
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))
    return float(values[order][min(int(place), len(values) - 1)])


def seconds_per_step(node: NodeRun) -> tuple[float | None, float | None]:
    """Median and 90th percentile: of all steps if the node has written its summary, or else those of `step_times`."""
    told = node.summary.get("seconds_per_step")
    if isinstance(told, dict) and told.get("median") is not None:
        return told["median"], told.get("p90")
    values, weights = step_times(node)
    return weighted_quantile(values, weights, 0.5), weighted_quantile(values, weights, 0.9)


def waits_for_pulls(node: NodeRun) -> bool:
    """True if the training stands still while weights are pulled: a worker's that exchanges the whole model."""
    server: dict[str, Any] = node.configuration.get("server") or {}
    return strategy_of(node) == "parameter-server" and server.get("range", "all") == "all"


def strategy_of(node: NodeRun) -> str:
    """The strategy that the node was told."""
    return str(node.summary.get("strategy") or node.configuration.get("strategy") or "")


def phase_seconds(node: NodeRun) -> dict[str, float] | None:
    """Where the seconds of a node's training went; None if it has not said.

    Returns:
        Seconds of each of `PHASES`. Pulls beside the computation cost nothing and are 0 here. `rest` is what none of
        the others covers. Evaluations are left out.
    """
    seconds = node.figure("seconds")
    if node.is_server or seconds is None or node.figure("compute_seconds") is None:
        return None
    elapsed = seconds - (node.figure("evaluation_seconds") or 0.0)
    parts = {name: node.figure(f"{name}_seconds") or 0.0 for name in PHASES[:-1]}
    if not waits_for_pulls(node):
        parts["pull"] = 0.0
    return parts | {"rest": max(0.0, elapsed - sum(parts.values()))}


def merge_matrix(run: Run) -> tuple[list[NodeId], list[NodeId], NDArray[np.int64]]:
    """Who merged from whom.

    Returns:
        The nodes that merged, the nodes merged from, and the number of merges, shape (mergers, sources).
    """
    mergers = [node.name for node in run.workers if len(node.lines)]
    told = {peer for node in run.workers for peer in node.lines.pulls}
    sources = [node.name for node in run.nodes if node.name in told or (not node.is_server and node.name in mergers)]
    if any(node.is_server for node in run.nodes):
        sources = [name for name in sources if name in told]
    sources += sorted(told - set(sources))
    pulls = {node.name: node.lines.pulls for node in run.workers}
    counts = [[pulls[merger].get(source, 0) for source in sources] for merger in mergers]
    return mergers, sources, np.array(counts, dtype=np.int64).reshape(len(mergers), len(sources))


def total(nodes: Sequence[NodeRun], figure: str) -> float | None:
    """The sum of a figure over the nodes that have it; None if no node has."""
    values = [value for node in nodes if (value := node.figure(figure)) is not None]
    return sum(values) if values else None


def median(values: Sequence[float | None]) -> float | None:
    """The median of those that are known; None without any."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def accuracy_before(node: NodeRun) -> float | None:
    """The test accuracy before the final merge; the only one of a node without a final merge."""
    before = node.summary.get("before_final_merge")
    value = (before if isinstance(before, dict) else node.summary).get("test_accuracy")
    return value if isinstance(value, int | float) else None


def accuracy_after(node: NodeRun) -> float | None:
    """The test accuracy after the final merge; None of a node without one."""
    value = node.summary.get("test_accuracy") if node.summary.get("final_merge") else None
    return value if isinstance(value, int | float) else None
