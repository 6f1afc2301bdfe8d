"""`p2pdl status`: how the nodes of a cluster are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from p2pdl.cli import COMMANDS, numbers
from p2pdl.cli.exchange_table import exchange_table
from p2pdl.cli.options import DEFAULT_FILE, config_option, configuration_of, file_here, json_option, set_option
from p2pdl.cli.tables import output, state_cell, table
from p2pdl.config import Address
from p2pdl.config.address import AddressError
from p2pdl.config.source import shown
from p2pdl.errors import EXIT_DONE, EXIT_FAILED
from p2pdl.node.cluster_status import NodeStatus, ask_around, ask_nodes

WATCH_SECONDS = 1.0
LONGEST_REASON = 300

Look = Callable[[], tuple[str, list[NodeStatus]]]
"""Asks once: the cluster's name, and how each node is."""


@click.command("status", short_help=COMMANDS["status"])
@config_option
@click.option("--address", metavar="HOST:PORT", help="A node to ask, and its peers after it; needs no file.")
@click.option("--watch", is_flag=True, help="Ask again every second until Ctrl-C.")
@set_option
@json_option
def command(file: str | None, address: str | None, watch: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Ask the nodes of a cluster how they are: those of a file, or those that a running node knows.

    Ends with exit code 0 if any node answered, else 1. With --watch and --json, prints one object a line.
    """
    look = _look(file, address, overrides)
    if as_json:
        _print_json(look, watch)
    elif watch:
        _watch(look)
    else:
        cluster, nodes = look()
        output().print(view(cluster, nodes))
        _exit(nodes)


def _look(file: str | None, address: str | None, overrides: tuple[str, ...]) -> Look:
    if address is not None:
        if file is not None:
            raise click.UsageError("--config and --address both say whom to ask: give one of them")
        try:
            place = str(Address.parse(address))
        except AddressError as error:
            raise click.BadParameter(str(error), param_hint="--address") from None
        return lambda: ask_around(place)
    if file_here(file) is None:
        raise click.UsageError(
            f"whom to ask? Name the configuration with --config FILE or a running node with --address HOST:PORT; "
            f"there is no {DEFAULT_FILE} in this folder"
        )
    configuration = configuration_of(file, overrides)
    cluster = configuration.cluster.name
    addresses = {entry.name: str(entry.address) for entry in configuration.nodes}
    return lambda: (cluster, ask_nodes(cluster, addresses))


def _print_json(look: Look, watch: bool) -> None:
    while True:
        cluster, nodes = look()
        told = {"cluster": cluster, "nodes": [node.to_json() for node in nodes]}
        click.echo(json.dumps(told, indent=None if watch else 2))
        if not watch:
            _exit(nodes)
        time.sleep(WATCH_SECONDS)


def _watch(look: Look) -> None:
    with Live(console=output(), auto_refresh=False) as live:
        while True:
            live.update(view(*look()), refresh=True)
            time.sleep(WATCH_SECONDS)


def _exit(nodes: Sequence[NodeStatus]) -> None:
    answered = any(node.status is not None for node in nodes)
    click.get_current_context().exit(EXIT_DONE if answered else EXIT_FAILED)


def view(cluster: str, nodes: Sequence[NodeStatus]) -> Group:
    """The tables of the nodes and of their exchange, and below them what is wrong with those that fail."""
    made = table("node", "address", "state", "step", "loss", "ms/step", "merges", "MB in", "peers", "heard")
    answered = [(node.name, node.status) for node in nodes if node.status is not None]
    troubles: list[str] = []
    for node in nodes:
        name = shown(node.name)
        status = node.status
        if status is None:
            made.add_row(name, shown(node.address), state_cell("no answer"))
            troubles.append(f"{name}: {node.error}")
            continue
        figures = status.figures
        live = sum(row.get("state") == "live" for row in status.peers)
        made.add_row(
            name,
            shown(node.address),
            state_cell(status.state),
            numbers.progress(status.step, status.steps),
            numbers.loss(status.loss),
            numbers.milliseconds(figures.get("seconds_per_step") or None),
            numbers.merges(figures.get("merges"), figures.get("merges_skipped")),
            numbers.megabytes(figures.get("bytes_received")),
            f"{live}/{len(status.peers)}" if status.peers else numbers.NOTHING,
            f"{status.age:.1f} s" if status.age is not None else numbers.NOTHING,
        )
        troubles += [
            f"{name} on {row.get('name')}: {row['last_error']}" for row in status.peers if row.get("last_error")
        ]
    exchange = exchange_table(answered)
    below = [Text(shown(trouble, LONGEST_REASON)) for trouble in troubles]
    return Group(Text(f"cluster {shown(cluster)}", style="bold"), made, *([exchange] if exchange else []), *below)
