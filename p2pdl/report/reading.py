"""The folder of a run, read back: a cluster's, or one node's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pdl.errors import StartupError
from p2pdl.report.lines import read_lines
from p2pdl.report.run import NO_LINES, NodeRun, Run
from p2pdl.report.timeline import read_step_seconds
from p2pdl.types import JsonObject

CONFIGURATION_FILE = "config.json"
ENVIRONMENT_FILE = "environment.json"
LINES_FILE = "metrics.jsonl"
SUMMARY_FILE = "summary.json"
TIMELINE_FILE = "timeline.json"
EARLIER = "earlier"


def read_runs(folders: Sequence[Path], titles: Sequence[str] = ()) -> list[Run]:
    """Read some runs.

    Args:
        folders: Their folders.
        titles: What to call the first of them; the others are named by their folders.

    Raises:
        StartupError: A folder is not there, or holds no run.
    """
    names = [*titles, *folder_titles(folders)[len(titles) :]]
    return [read_run(folder, title) for folder, title in zip(folders, names, strict=True)]


def folder_titles(folders: Sequence[Path]) -> list[str]:
    """As much of the end of each path as tells it from the others, without the folder `runs`.

    A folder that is given twice is numbered.
    """
    parts = [[part for part in folder.resolve().parts if part not in ("runs", "/")] for folder in folders]
    longest = max((len(path) for path in parts), default=0)
    for length in range(1, longest + 1):
        titles = ["/".join(path[-length:]) for path in parts]
        if len(set(titles)) == len({tuple(path) for path in parts}):
            break
    else:
        titles = [str(folder) for folder in folders]
    seen: dict[str, int] = {}
    numbered = []
    for title in titles:
        seen[title] = seen.get(title, 0) + 1
        numbered.append(title if seen[title] == 1 else f"{title} ({seen[title]})")
    return numbered


def read_run(folder: Path, title: str) -> Run:
    """Read one run.

    Args:
        folder: The folder of a cluster's run, or of one node's.
        title: What to call it.

    Raises:
        StartupError: The folder is not there, or holds no run.
    """
    remedy = (
        "name the folder that a run has left, such as runs/<cluster> or runs/<cluster>/<node>, or one in which "
        "experiments have left what they found, such as runs/experiments/small"
    )
    if not folder.is_dir():
        raise StartupError(f"{folder} is no folder", remedy)
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != EARLIER)
        whole = _read_object(folder / SUMMARY_FILE)
        if (folder / LINES_FILE).exists() or (folder / CONFIGURATION_FILE).exists() or "node" in whole:
            return _node_run(folder, title)
        nodes = [path for path in inside if (path / CONFIGURATION_FILE).exists() or (path / LINES_FILE).exists()]
    except OSError as error:
        raise StartupError(f"{error.filename or folder} cannot be read: {error.strerror}", remedy) from None
    if not nodes and "nodes" not in whole:
        raise StartupError(
            f"{folder} holds no run: there is neither a {LINES_FILE} nor a {SUMMARY_FILE} in it or below it", remedy
        )
    return _cluster_run(folder, title, nodes, whole)


def _node_run(folder: Path, title: str) -> Run:
    node = read_node(folder, {})
    return Run(
        title,
        folder,
        str(_at(node.configuration, "cluster", "name") or ""),
        _strategy([node]),
        node.figure("seconds"),
        _consensus(node),
        (node,),
        (),
    )


def _consensus(node: NodeRun) -> JsonObject | None:
    merged = _at(node.summary, "final_merge", "nodes")
    if not merged:
        return None
    return {**{name: node.summary.get(name) for name in ("test_loss", "test_accuracy")}, "nodes": merged}


def _cluster_run(folder: Path, title: str, folders: Sequence[Path], whole: JsonObject) -> Run:
    told = {str(entry.get("node")): entry for entry in _objects(whole.get("nodes"))}
    missing = []
    if not whole:
        missing.append(f"there is no {SUMMARY_FILE} of the whole run: `p2pdl up` did not end, or was not used")
    elif _is_older(told, folders):
        missing.append(f"{SUMMARY_FILE} is an earlier run's, and was left out")
        whole, told = {}, {}
    nodes = [read_node(path, told.get(path.name, {})) for path in folders]
    here = {node.name for node in nodes}
    nodes += [_only_told(name, entry) for name, entry in told.items() if name not in here]
    here |= told.keys()
    listed = {str(entry.get("name")): None for node in nodes for entry in _objects(node.configuration.get("nodes"))}
    missing += [f"{name}: nothing of it is here" for name in listed if name not in here]
    nodes.sort(key=lambda node: not node.is_server)
    consensus = whole.get("consensus")
    if consensus is None and not whole:
        merged = [node for node in nodes if _consensus(node)]
        best = min(merged, key=lambda node: (-len(node.summary["final_merge"]["nodes"]), node.name), default=None)
        consensus = _consensus(best) if best is not None else None
    seconds = whole.get("seconds")
    names = [str(_at(node.configuration, "cluster", "name") or "") for node in nodes]
    return Run(
        title,
        folder,
        str(whole.get("cluster") or next(filter(None, names), "")),
        str(whole.get("strategy") or _strategy(nodes)),
        seconds if isinstance(seconds, int | float) else None,
        consensus if isinstance(consensus, dict) else None,
        tuple(nodes),
        tuple(missing),
    )


def _is_older(told: dict[str, JsonObject], folders: Sequence[Path]) -> bool:
    """True if a node's own summary says otherwise, or is not there although the cluster's has its steps."""
    own = {path.name: _read_object(path / SUMMARY_FILE) for path in folders}
    return any(
        own[name].get("steps") != entry.get("steps") or own[name].get("seconds") != entry.get("seconds")
        for name, entry in told.items()
        if name in own and "steps" in entry
    )


def _only_told(name: str, entry: JsonObject) -> NodeRun:
    missing = (f"{name}: only the cluster's {SUMMARY_FILE} tells of it",)
    return NodeRun(name, entry.get("role") == "server", entry, NO_LINES, {}, np.empty(0), missing)


def read_node(folder: Path, told: JsonObject) -> NodeRun:
    """What one node has left.

    Args:
        folder: Its folder.
        told: What the cluster's summary says of it, for want of its own.
    """
    own = _read_object(folder / SUMMARY_FILE)
    summary = own or told
    configuration = _read_object(folder / CONFIGURATION_FILE)
    lines = read_lines(folder / LINES_FILE)
    name = str(summary.get("node") or lines.last.get("node") or folder.name)
    roles = {entry.get("name"): entry.get("role") for entry in _objects(configuration.get("nodes"))}
    is_server = "server" in (summary.get("role"), roles.get(name))
    missing = []
    if summary.get("error"):
        missing.append(f"{summary.get('state', 'failed')}: {summary['error']}")
    elif not own:
        missing.append(f"no {SUMMARY_FILE}: it was killed, or is still running; its figures are those of the last line")
    if not configuration:
        missing.append(f"no {CONFIGURATION_FILE}")
    if not len(lines) and not is_server:
        missing.append(f"no lines in {LINES_FILE}: it ended before the first one, or the folder is not whole")
    missing += lines.missing
    return NodeRun(
        name,
        is_server,
        summary,
        lines,
        configuration,
        read_step_seconds(folder / TIMELINE_FILE),
        tuple(f"{name}: {text}" for text in missing),
        _read_object(folder / ENVIRONMENT_FILE),
    )


def _strategy(nodes: Sequence[NodeRun]) -> str:
    found = (node.summary.get("strategy") or node.configuration.get("strategy") for node in nodes)
    return str(next(filter(None, found), ""))


def _at(source: JsonObject, *keys: str) -> Any:
    value: Any = source
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _objects(value: Any) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _read_object(path: Path) -> JsonObject:
    """A JSON object; empty where there is none, or half of one."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
