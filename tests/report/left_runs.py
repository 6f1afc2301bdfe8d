"""Runs as they are left, made up: a cluster's folder with the files that its nodes write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("node1", "node2", "node3")


def line(number: int, node: str = "node1", peers: tuple[str, ...] = ("node2", "node3")) -> dict[str, Any]:
    """The line of `metrics.jsonl` after so many seconds, ten steps each."""
    return {
        "seconds": float(number),
        "time": 1.8e9 + number,
        "node": node,
        "step": 10 * number,
        "samples": 640 * number,
        "smoothed_loss": 2.0 / number,
        "seconds_per_step": 0.1,
        "compute_seconds": 0.7 * number,
        "publish_seconds": 0.1 * number,
        "merge_seconds": 0.05 * number,
        "wait_seconds": 0.0,
        "pull_seconds": 0.5 * number,
        "bytes_received": 1_000_000 * number,
        "bytes_sent": 900_000 * number,
        "merges": number,
        "merges_skipped": 0,
        "merged_from": peers[0] if peers else None,
        "links": {peer: {"state": "live", "pulls": number * (place + 1)} for place, peer in enumerate(peers)},
        "train_loss": 2.0 / number,
        "test_accuracy": None,
        "test_loss": None,
        "evaluation_seconds": 0.0,
    }


EVALUATION_SECONDS = 0.5


def evaluated(lines: list[dict[str, Any]], every: int) -> list[dict[str, Any]]:
    """The same lines of a node that was evaluated before its first step and after every so many lines.

    An evaluation takes `EVALUATION_SECONDS`, and the accuracy is 0.1 at first and comes closer to 1 in each line.
    """
    first = {"seconds": 0.0, "step": 0, "bytes_received": 0, "train_loss": None, "smoothed_loss": None}
    found = [{**lines[0], **first, "test_accuracy": 0.1, "test_loss": 2.3, "links": {}}]
    for number, written in enumerate(lines, start=1):
        spent = EVALUATION_SECONDS * (number // every)
        accuracy = 1.0 - 0.9 / (1 + number) if number % every == 0 else None
        figures = {"test_accuracy": accuracy, "evaluation_seconds": spent, "seconds": written["seconds"] + spent}
        found.append({**written, **figures})
    return found


ENVIRONMENT = {
    "versions": {"p2pdl": "0.1.0", "python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6"},
    "machine": {"architecture": "x86_64", "system": "Linux 6.1", "processor": "Some CPU @ 2.90GHz"},
    "cores": 2,
    "memory_bytes": 8_000_000_000,
    "load": 0.25,
    "gpus": [],
}
"""What a node's `environment.json` may hold; the versions of two libraries are not known."""


def summary(node: str, lines: int, names: tuple[str, ...] = NAMES, spent: float = 0.0) -> dict[str, Any]:
    """The summary of a node that has done its part, and has spent so many seconds on evaluations."""
    return {
        "node": node,
        "strategy": "gossip",
        "state": "done",
        "steps": 10 * lines,
        "samples": 640 * lines,
        "seconds": lines + spent,
        "evaluation_seconds": spent,
        "seconds_per_step": {"median": 0.1, "p10": 0.09, "p90": 0.12},
        "compute_seconds": 0.7 * lines,
        "smoothed_loss": 2.0 / lines,
        "train_loss": 0.1,
        "train_accuracy": 0.99,
        "test_loss": 0.2,
        "test_accuracy": 0.95,
        "before_final_merge": {"test_loss": 0.3, "test_accuracy": 0.9},
        "final_merge": {"nodes": list(names), "missing": {}},
        "publish_seconds": 0.1 * lines,
        "merge_seconds": 0.05 * lines,
        "wait_seconds": 0.0,
        "pull_seconds": 0.5 * lines,
        "bytes_received": 1_000_000 * lines,
        "bytes_sent": 900_000 * lines,
        "merges": lines,
        "merges_skipped": 0,
    }


def configuration(names: tuple[str, ...] = NAMES, cluster: str = "lab", **train: object) -> dict[str, Any]:
    """A little of what `config.json` holds."""
    nodes = [{"name": name, "address": f"127.0.0.1:{7101 + i}", "role": "worker"} for i, name in enumerate(names)]
    return {
        "cluster": {"name": cluster, "runs": "runs"},
        "nodes": nodes,
        "train": {"passes": 5.0, "seed": 7, "threads": 2, **train},
        "strategy": "gossip",
        "server": {"policy": "bsp"},
        "file": "/somewhere/peers.yaml",
        "joined": [],
    }


def leave_run(
    folder: Path, names: tuple[str, ...] = NAMES, lines: int = 20, evaluate_every: int = 0, **train: object
) -> Path:
    """A whole cluster's run; with evaluations after every so many lines."""
    spent = EVALUATION_SECONDS * (lines // evaluate_every) if evaluate_every else 0.0
    for name in names:
        node = folder / name
        node.mkdir(parents=True)
        (node / "config.json").write_text(json.dumps(configuration(names, folder.name, **train)))
        peers = tuple(other for other in names if other != name)
        (node / "environment.json").write_text(json.dumps(ENVIRONMENT))
        written = [line(number, name, peers) for number in range(1, lines + 1)]
        with (node / "metrics.jsonl").open("w") as file:
            told = evaluated(written, evaluate_every) if evaluate_every else written
            file.writelines(json.dumps(one) + "\n" for one in told)
        (node / "summary.json").write_text(json.dumps(summary(name, lines, names, spent)))
    told = {
        "cluster": folder.name,
        "strategy": "gossip",
        "seconds": lines + 5.0,
        "consensus": {"test_loss": 0.2, "test_accuracy": 0.95, "nodes": list(names)},
        "nodes": [summary(name, lines, names, spent) for name in names],
    }
    (folder / "summary.json").write_text(json.dumps(told))
    return folder


def leave_timeline(folder: Path, starts: np.ndarray) -> None:
    """A node's timeline with a compute span that begins at each of these seconds, cut in its last event."""
    events = [
        {"ph": "X", "tid": 1, "name": "compute", "ts": round(1e6 * start), "dur": 1000, "args": {"step": number}}
        for number, start in enumerate(starts, start=1)
    ]
    text = "[\n" + ",\n".join(json.dumps(event) for event in events)
    (folder / "timeline.json").write_text(text + ',\n{"ph": "X", "name": "compute", "ts": 12')
