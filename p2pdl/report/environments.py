"""What runs have run on: versions, processors, memory; nodes of which the same is true in one row."""

from __future__ import annotations

import json
from collections.abc import Sequence

from p2pdl.report import words
from p2pdl.report.run import NodeRun, Run
from p2pdl.report.tables import ROWS, Table
from p2pdl.types import JsonObject

VERSIONS = ("p2pdl", "python", "tensorflow", "keras", "numpy", "pyzmq", "msgpack")

MOST_NAMES = 4
"""So many nodes of a row are named."""


def environments_table(runs: Sequence[Run]) -> Table | None:
    """A row for each environment in a run; None if no node has recorded one."""
    rows = [(run.title, *row) for run in runs for row in _rows(run)]
    if not rows:
        return None
    several = len(runs) > 1
    shown = tuple(row if several else row[1:] for row in rows[:ROWS])
    heads = (
        *(("run",) if several else ()),
        *("nodes", "system", "processor", "cores", "memory", "load", "graphics processors", *VERSIONS),
    )
    return Table("What it ran on", heads, shown, len(heads), max(0, len(rows) - ROWS))


def _rows(run: Run) -> list[tuple[str, ...]]:
    alike: dict[str, list[NodeRun]] = {}
    for node in run.nodes:
        if node.environment:
            lasting = {name: value for name, value in node.environment.items() if name != "load"}
            alike.setdefault(json.dumps(lasting, sort_keys=True), []).append(node)
    return [_row(nodes) for nodes in alike.values()]


def _row(nodes: Sequence[NodeRun]) -> tuple[str, ...]:
    found = nodes[0].environment
    names = [node.name for node in nodes]
    machine, versions = _object(found, "machine"), _object(found, "versions")
    loads = [load for node in nodes if isinstance(load := node.environment.get("load"), int | float)]
    memory = found.get("memory_bytes")
    gpus = found.get("gpus")
    return (
        ", ".join(names) if len(names) <= MOST_NAMES else f"{names[0]} and {len(names) - 1} others",
        _text(" ".join(str(machine[part]) for part in ("system", "architecture") if machine.get(part))),
        _text(machine.get("processor")),
        _text(found.get("cores")),
        words.nbytes(memory if isinstance(memory, int | float) else None),
        f"{min(loads):g} to {max(loads):g}" if len(set(loads)) > 1 else _text(loads[0] if loads else None),
        _text(", ".join(map(str, gpus)) if isinstance(gpus, list) else None),
        *(_text(versions.get(name)) for name in VERSIONS),
    )


def _object(source: JsonObject, name: str) -> JsonObject:
    value = source.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return words.NOTHING if value in (None, "") else str(value)
