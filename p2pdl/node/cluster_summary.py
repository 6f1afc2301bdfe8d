"""What a run of several nodes leaves together: their summaries, and the consensus model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError
from p2pdl.files import replace, replacing
from p2pdl.node.results import MODEL_FILE, SUMMARY_FILE
from p2pdl.node.run_folder import keep_earlier, run_folder
from p2pdl.types import JsonObject, NodeId


class NodeSummaries:
    """The nodes' summaries of one run; made before it, so that those of earlier runs are not taken for its own.

    Args:
        configuration: The cluster.
        names: The nodes of the run that are here.
        ended: Those of them that had done their part before.
    """

    def __init__(self, configuration: Configuration, names: Sequence[NodeId], ended: Collection[NodeId] = ()) -> None:
        self._strategy = configuration.strategy
        self._paths = {name: run_folder(configuration) / name / SUMMARY_FILE for name in names}
        self._before = {name: _identity(path) for name, path in self._paths.items() if name not in ended}

    def read(self, ends: Mapping[NodeId, str], stopped: bool = False) -> list[JsonObject]:
        """One summary for each node, in the order of the file.

        Args:
            ends: How each node has ended that did not end well: the reason, where it could not write one.
            stopped: Whether the nodes were told to end early.
        """
        state = "stopped" if stopped else "failed"
        return [self._summary(name) or self._without(name, state, ends.get(name, "")) for name in self._paths]

    def _summary(self, name: NodeId) -> JsonObject | None:
        path = self._paths[name]
        if _identity(path) in (None, self._before.get(name)):
            return None
        try:
            summary: JsonObject = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return summary

    def _without(self, name: NodeId, state: str, reason: str) -> JsonObject:
        return {
            "node": name,
            "strategy": self._strategy,
            "state": state,
            "error": f"it left no summary{f': {reason}' if reason else ''}",
        }


def consensus_node(summaries: Sequence[JsonObject]) -> NodeId | None:
    """The node whose final merge holds the most nodes, of several the first by name; None if there was no merge."""
    merged = [summary for summary in summaries if summary.get("final_merge")]
    if not merged:
        return None
    best = min(merged, key=lambda summary: (-len(summary["final_merge"]["nodes"]), summary["node"]))
    name: NodeId = best["node"]
    return name


def write_cluster_summary(
    configuration: Configuration, seconds: float, summaries: Sequence[JsonObject]
) -> tuple[JsonObject, Path | None]:
    """Write the cluster's `summary.json` and copy the consensus model; what an earlier run left moves to `earlier/`.

    Args:
        configuration: The cluster.
        seconds: How long the run took.
        summaries: One of each node.

    Returns:
        The summary, and where the consensus model is; None if there is none.

    Raises:
        P2pdlError: They cannot be written.
    """
    folder = run_folder(configuration)
    chosen = consensus_node(summaries)
    consensus: JsonObject | None = None
    for summary in summaries:
        if summary["node"] == chosen:
            consensus = {
                "test_loss": summary["test_loss"],
                "test_accuracy": summary["test_accuracy"],
                "nodes": summary["final_merge"]["nodes"],
            }
    result: JsonObject = {
        "cluster": configuration.cluster.name,
        "strategy": configuration.strategy,
        "seconds": seconds,
        "consensus": consensus,
        "nodes": list(summaries),
    }
    try:
        keep_earlier(folder, [folder / MODEL_FILE, folder / SUMMARY_FILE])
        if chosen is not None:
            with replacing(folder / MODEL_FILE) as fresh:
                shutil.copyfile(folder / chosen / MODEL_FILE, fresh)
        replace(folder / SUMMARY_FILE, json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise P2pdlError(
            f"the results of the cluster cannot be written to {folder}: {error.strerror}",
            f"each node has its own: {folder}/<node>/{SUMMARY_FILE} and {MODEL_FILE}",
        ) from None
    return result, folder / MODEL_FILE if chosen is not None else None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
