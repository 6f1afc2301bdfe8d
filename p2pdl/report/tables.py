"""The tables of a report, as text: the terminal and the page show the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from p2pdl.report import words
from p2pdl.report.run import NodeRun, Run
from p2pdl.report.statistics import accuracy_after, accuracy_before, seconds_per_step
from p2pdl.report.verdict import steps_of, verdict_of
from p2pdl.types import JsonObject

ROWS = 200
"""So many rows of a table are shown; `--json` has all."""

NAMES = 2
"""The first columns of a table that hold text."""


@dataclass(frozen=True)
class Table:
    """Heads and rows of text.

    Attributes:
        title: What it is.
        heads: The columns' heads; the first `names` are of text, the others of numbers.
        rows: As many cells each.
        names: How many columns of text there are.
        left_out: How many rows were left out.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = NAMES
    left_out: int = 0


def runs_table(runs: Sequence[Run]) -> Table:
    """One row for each run."""
    rows = []
    for run in runs[:ROWS]:
        found = verdict_of(run)
        rows.append(
            (
                run.title,
                run.strategy or words.NOTHING,
                f"{found.done}/{found.nodes}",
                words.decimals(found.accuracy, 4),
                words.seconds(found.seconds),
                words.milliseconds(found.median),
                words.milliseconds(found.p90),
                words.megabytes(found.bytes_received),
                words.megabytes(found.bytes_sent),
            )
        )
    heads = ("run", "strategy", "done", "accuracy", "time", "ms/batch median", "p90", "MB in", "MB out")
    return Table("Runs", heads, tuple(rows), left_out=max(0, len(runs) - ROWS))


def nodes_table(runs: Sequence[Run]) -> Table:
    """One row for each node of each run."""
    entries = [(run, node) for run in runs for node in run.nodes]
    several = len(runs) > 1
    rows = tuple((*((run.title,) if several else ()), *_node_row(node)) for run, node in entries[:ROWS])
    heads = (
        *(("run",) if several else ()),
        *("node", "state", "accuracy before", "after merging", "test loss", "steps", "ms/batch median", "p90"),
        *("merges", "skipped", "MB in", "MB out", "waited"),
    )
    return Table("Nodes", heads, rows, NAMES + several, max(0, len(entries) - ROWS))


def _node_row(node: NodeRun) -> tuple[str, ...]:
    middle, high = seconds_per_step(node)
    return (
        node.name,
        "server, " + node.state if node.is_server else node.state,
        words.decimals(accuracy_before(node), 4),
        words.decimals(accuracy_after(node), 4),
        words.decimals(node.figure("test_loss"), 3),
        words.count(steps_of(node)),
        words.milliseconds(middle),
        words.milliseconds(high),
        words.count(node.figure("merges")),
        words.count(node.figure("merges_skipped")),
        words.megabytes(node.figure("bytes_received")),
        words.megabytes(node.figure("bytes_sent")),
        words.seconds(node.figure("wait_seconds")),
    )


LEFT_OUT = {"file", "joined"}
"""What a node records beside its settings."""


def settings_of(run: Run) -> JsonObject:
    """The settings of the run's first node that has recorded them; `train.threads` is that node's."""
    recorded: JsonObject = next((node.configuration for node in run.nodes if node.configuration), {})
    return {name: value for name, value in recorded.items() if name not in LEFT_OUT}


def setting_lines(settings: JsonObject, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting by its full name, such as `train.passes`; a list is one setting."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from setting_lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences_table(runs: Sequence[Run], most: int) -> Table | None:
    """The settings in which the first runs differ, a row for each; None if there is none, or nothing to compare.

    Args:
        runs: The runs.
        most: How many of them have a column.
    """
    compared = [run for run in runs if settings_of(run)][:most]
    recorded = [dict(setting_lines(settings_of(run))) for run in compared]
    names = list(dict.fromkeys(name for settings in recorded for name in settings))
    rows = [(name, *(_shown(settings.get(name)) for settings in recorded)) for name in names]
    different = tuple(row for row in rows if len(set(row[1:])) > 1)
    if not different:
        return None
    return Table(
        "Where the settings differ", ("setting", *(run.title for run in compared)), different, 1 + len(compared)
    )


def _shown(value: Any) -> str:
    if value is None:
        return words.NOTHING
    if isinstance(value, list):
        return ", ".join(str(item.get("name", item)) if isinstance(item, dict) else str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
