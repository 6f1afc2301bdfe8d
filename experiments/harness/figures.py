"""The figures of a cluster's run, out of what its nodes have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.harness.experiment import Figures
from p2pdl.report.reading import TIMELINE_FILE, read_run
from p2pdl.report.run import Column, NodeRun
from p2pdl.report.timeline import read_step_starts
from p2pdl.types import JsonObject

WARM_UP_STEPS = 3
"""Steps at the beginning that do not count: the first pulls carry whole models, and memory is touched anew."""

MOST_SAMPLES = 2000
"""Step times that are kept of a run: those of quantiles at equal distances."""

MOST_POINTS = 150
"""Of each node's curves."""

CURVES = ("step", "seconds", "evaluation_seconds", "bytes_received", "train_loss", "test_accuracy")


def run_figures(folder: Path, names: Sequence[str]) -> Figures:
    """What came of a run.

    Args:
        folder: Of the whole cluster's run.
        names: Of its nodes.

    Returns:
        `accuracy` of the consensus model, or else the median of the nodes'; `is_consensus`; `nodes`: for each its
        `summary` and its `curve`; `step`: `median` and `p90` seconds of a step of those that train, and the
        `seconds` themselves, at most 2000 of them at equal distances in their order.
    """
    run = read_run(folder, folder.name)
    workers = {node.name: node for node in run.workers}
    starts = {name: read_step_starts(folder / name / TIMELINE_FILE) for name in workers}
    agreed = (run.consensus or {}).get("test_accuracy")
    own = [value for node in run.workers if (value := node.figure("test_accuracy")) is not None]
    return {
        "accuracy": agreed if agreed is not None else float(np.median(own)) if own else None,
        "is_consensus": agreed is not None,
        "step": step_figures(steps_side_by_side(starts)),
        "nodes": {
            node.name: {"summary": node.summary, "curve": {} if node.is_server else _curve(node)}
            for node in run.nodes
            if node.name in names
        },
    }


def steps_side_by_side(starts: Mapping[str, tuple[Column, Column]]) -> Column:
    """How long steps took while all nodes were training, the first ones left out.

    Who trains while others have not begun or have finished has more of the processor and of the network for itself.

    Args:
        starts: Of each node the numbers of its steps and when they began, in seconds of one clock.

    Returns:
        Seconds of each step of each node whose begin and end lie within that time; empty where there is none.
    """
    counted = {
        name: (steps[steps > WARM_UP_STEPS], moments[steps > WARM_UP_STEPS])
        for name, (steps, moments) in starts.items()
    }
    if not counted or not all(len(steps) for steps, _ in counted.values()):
        return np.empty(0)
    first = max(moments[0] for _, moments in counted.values())
    last = min(moments[-1] for _, moments in counted.values())
    found = []
    for steps, moments in counted.values():
        good = (np.diff(steps) == 1) & (moments[:-1] >= first) & (moments[1:] <= last)
        found.append(np.diff(moments)[good])
    return np.concatenate(found)


def step_figures(times: Column | Sequence[float]) -> JsonObject:
    """The `step` of `run_figures`.

    Args:
        times: Seconds of each step.
    """
    seconds = np.asarray(times, dtype=np.float64)
    if not len(seconds):
        return {"median": None, "p90": None, "count": 0, "seconds": []}
    ordered = np.sort(seconds)
    places = np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_SAMPLES)).round().astype(int)
    return {
        "median": float(np.quantile(ordered, 0.5)),
        "p90": float(np.quantile(ordered, 0.9)),
        "count": len(ordered),
        "seconds": [round(float(value), 6) for value in ordered[places]],
    }


def _curve(node: NodeRun) -> JsonObject:
    """The lines of a node as columns: those with an evaluation, or else some of them."""
    columns = {name: node.lines.columns[name] for name in CURVES}
    kept = np.flatnonzero(~np.isnan(columns["test_accuracy"]))
    if not len(kept):
        count = len(columns["step"])
        kept = np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int)
    return {
        name: [None if np.isnan(value) else round(float(value), 6) for value in column[kept]]
        for name, column in columns.items()
    }
