"""Figures of a run of several nodes on one machine, out of the lines and the summary that each of them has left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP_STEPS = 3
"""Steps at the beginning that do not count: the first pulls carry whole models, and memory is touched anew."""


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


def links(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """How a node has pulled from each other one.

    Args:
        lines: Of the node's metrics.

    Returns:
        For each peer the `codecs` in the order in which they were first chosen, the `reason` of the last choice, the
        rate as last measured, and the pulls that were merged.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        for peer, seen in line["links"].items():
            codecs = found.get(peer, {}).get("codecs", [])
            found[peer] = {
                "codecs": codecs if seen["codec"] in codecs else [*codecs, seen["codec"]],
                "codec": seen["codec"],
                "reason": seen["codec_reason"],
                "mbit_per_second": seen["mbit_per_second"],
                "pulls": seen["pulls"],
            }
    return found


def node_figures(
    seconds: Sequence[float], lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """One node's row.

    Args:
        seconds: Of its steps that count, at least one.
        lines: Of its `metrics.jsonl`.
        summary: Its `summary.json`.
    """
    failed = summary["exchange_failures"]
    pulls = summary["merges"] + summary["unchanged"] + summary["busy"] + sum(failed.values())
    median, p90 = np.quantile(seconds, [0.5, 0.9])
    return {
        "node": summary["node"],
        "steps": summary["steps"],
        "steps_counted": len(seconds),
        "median_step_seconds": float(median),
        "p90_step_seconds": float(p90),
        "wait_seconds": summary["wait_seconds"],
        "publish_and_merge_seconds_per_step": (summary["publish_seconds"] + summary["merge_seconds"])
        / summary["steps"],
        "pulls": pulls,
        "merges": summary["merges"],
        "unchanged": summary["unchanged"],
        "busy": summary["busy"],
        "failures": failed,
        "bytes_received": summary["bytes_received"],
        "bytes_sent": summary["bytes_sent"],
        "links": links(lines),
    }


def run_step_seconds(run: Mapping[str, Any]) -> float:
    """One figure for the steps of a run: the mean of its nodes' medians."""
    return float(np.mean([node["median_step_seconds"] for node in run["nodes"]]))


def ratios(runs: Sequence[Mapping[str, Any]]) -> dict[float, list[float]]:
    """Step time on links of each rate over step time on links without a limit, for each round.

    Args:
        runs: With their `round`, their `mbit` (None without a limit) and their `nodes`; each round has one run
            without a limit.
    """
    unshaped = {run["round"]: run_step_seconds(run) for run in runs if run["mbit"] is None}
    found: dict[float, list[float]] = {}
    for run in runs:
        if run["mbit"] is not None:
            found.setdefault(run["mbit"], []).append(run_step_seconds(run) / unshaped[run["round"]])
    return found
