"""What `p2pdl up` shows at the end: a row for each node, and the consensus."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from p2pdl.cli import numbers
from p2pdl.cli.tables import near, state_cell, table
from p2pdl.config.source import shown
from p2pdl.types import JsonObject

LONGEST_REASON = 300


def show_results(console: Console, summary: JsonObject, model: Path | None) -> None:
    """Show a run's results.

    Args:
        console: Where to.
        summary: The cluster's summary.
        model: Where the consensus model is; None if there is none.
    """
    console.print(results_table(summary["nodes"]))
    for node in summary["nodes"]:
        if node.get("error"):
            console.print(f"{node['node']} {node['state']}: {shown(node['error'], LONGEST_REASON)}", soft_wrap=True)
        for name, reason in ((node.get("final_merge") or {}).get("missing") or {}).items():
            console.print(
                f"{node['node']}'s final merge is without {name}: {shown(reason, LONGEST_REASON)}", soft_wrap=True
            )
    consensus = summary["consensus"]
    if consensus is not None:
        accuracy, loss = numbers.accuracy(consensus["test_accuracy"]), numbers.loss(consensus["test_loss"])
        who = ", ".join(consensus["nodes"])
        console.print(f"consensus of {who}: test accuracy {accuracy}, loss {loss}", style="bold", soft_wrap=True)
        console.print(f"its model is {near(model) if model else numbers.NOTHING}", soft_wrap=True)
    elif summary["strategy"] == "gossip":
        console.print("there is no consensus model: no node got as far as a final merge", soft_wrap=True)


def results_table(nodes: list[JsonObject]) -> Table:
    """One row for each node; the accuracy of a node without a final merge stands under `before`."""
    made = table(
        *("node", "state", "accuracy\nbefore", "after\nmerging", "loss", "steps", "ms/step"),
        *("merges", "skipped", "MB in", "MB out", "waited\ns"),
    )
    for node in nodes:
        before = node.get("before_final_merge")
        made.add_row(
            node["node"],
            state_cell(node["state"]),
            numbers.accuracy((before or node).get("test_accuracy")),
            numbers.accuracy(node.get("test_accuracy") if before else None),
            numbers.loss(node.get("test_loss")),
            numbers.count(node.get("steps")),
            numbers.milliseconds((node.get("seconds_per_step") or {}).get("median")),
            numbers.count(node.get("merges")),
            numbers.count(node.get("merges_skipped")),
            numbers.megabytes(node.get("bytes_received")),
            numbers.megabytes(node.get("bytes_sent")),
            numbers.seconds(node.get("wait_seconds")),
        )
    return made
