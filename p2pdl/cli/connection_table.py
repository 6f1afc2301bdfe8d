"""The other nodes as `p2pdl check --connect` found them: a row for each, and below what failed and what to do."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from p2pdl.cli import numbers
from p2pdl.cli.tables import state_cell, table
from p2pdl.config.source import shown
from p2pdl.node.connection_check import Check, Connections

LONGEST_DETAIL = 1000


def show_connections(console: Console, connections: Connections) -> None:
    """Write it all down.

    Args:
        console: Where.
        connections: What was found.
    """
    _show_own(console, connections.own)
    if connections.peers:
        made = table(
            "node", "address", "connection", "ms", "state", "step", left=("node", "address", "connection", "state")
        )
        for check in connections.peers:
            made.add_row(shown(check.name), shown(check.address), _result_cell(check), *_training(check))
        console.print(made)
    if connections.own is not None:
        _show_steps(console, connections.own)
    for check in connections.peers:
        _show_steps(console, check)


def _show_own(console: Console, own: Check | None) -> None:
    if own is None:
        text = "no node of this file has an address of this machine; --name says which one is to run here"
    else:
        found = "; ".join(step.detail for step in own.steps if step.ok)
        text = f"this machine is {own.name}" + (f": {found}" if found else "")
    console.print(shown(text, LONGEST_DETAIL), soft_wrap=True)


def _result_cell(check: Check) -> Text:
    return Text(check.result, style="red" if check.failed else "green")


def _training(check: Check) -> tuple[str, Text | str, str]:
    if check.round_trip is None or check.status is None:
        return numbers.NOTHING, numbers.NOTHING, numbers.NOTHING
    progress = numbers.progress(check.status.step, check.status.steps)
    return f"{1000 * check.round_trip:.2f}", state_cell(check.status.state), progress


def _show_steps(console: Console, check: Check) -> None:
    """What failed, and what could not be said."""
    for step in check.steps:
        if step.ok:
            continue
        console.print(shown(f"{check.name}, {step.name}: {step.detail}", LONGEST_DETAIL), soft_wrap=True)
        if step.remedy:
            console.print(shown(f"  -> {step.remedy}", LONGEST_DETAIL), soft_wrap=True)
