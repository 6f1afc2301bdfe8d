"""Figures of a run of several nodes on one machine, out of the lines and the summary that each of them has left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.figures import WARM_UP_STEPS


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` that are there by now; the last one may be half written, and then is left out."""
    if not path.exists():
        return []
    *whole, _ = path.read_text().split("\n")
    return [json.loads(line) for line in whole]


def step_seconds(nodes: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[float]]:
    """How long each step of each node took while all nodes were training.

    Where several steps lie between two lines, each counts with their mean.

    Args:
        nodes: The lines of each node, with the moment (`time`, seconds) and how many steps were done (`step`).

    Returns:
        For each node a value for each step, in seconds, exchange included; empty where the nodes have hardly trained
        side by side.
    """
    counted = {name: [line for line in lines if line["step"] >= WARM_UP_STEPS] for name, lines in nodes.items()}
    if not all(counted.values()):
        return {name: [] for name in nodes}
    # Whoever trains while others have not begun or have finished has more of the processor for itself.
    first = max(lines[0]["time"] for lines in counted.values())
    last = min(lines[-1]["time"] for lines in counted.values())
    found: dict[str, list[float]] = {name: [] for name in nodes}
    for name, lines in counted.items():
        for before, after in zip(lines, lines[1:], strict=False):
            steps = after["step"] - before["step"]
            if steps and before["time"] >= first and after["time"] <= last:
                found[name] += [(after["time"] - before["time"]) / steps] * steps
    return found
