"""`p2pdl status`: how the nodes of a cluster are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from p2pdl.cli import COMMANDS, numbers
from p2pdl.cli.exchange_table import exchange_table
from p2pdl.cli.options import (
    DEFAULT_FILE,
    address_of,
    config_option,
    configuration_of,
    file_here,
    json_option,
    set_option,
)
from p2pdl.cli.server_lines import server_lines
from p2pdl.cli.tables import output, state_cell, table
from p2pdl.cli.troubles import peers_of, those_who_left, trouble_lines
from p2pdl.config.source import shown
from p2pdl.errors import EXIT_DONE, EXIT_FAILED
from p2pdl.node.cluster_status import NodeStatus, ask_around, ask_nodes
from p2pdl.node.security import keys_folder

WATCH_SECONDS = 1.0

Look = Callable[[], tuple[str, list[NodeStatus]]]
"""Asks once: the cluster's name, and how each node is."""


@click.command("status", short_help=COMMANDS["status"])
@config_option
@click.option("--address", metavar="HOST:PORT", help="A node to ask, and its peers after it; needs no file.")
@click.option("--watch", is_flag=True, help="Ask again every second until Ctrl-C.")
@set_option
@json_option
def command(file: str | None, address: str | None, watch: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Ask the nodes of a cluster how they are: those of a file and those that have joined them, or those that a
    running node knows.

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
        place = address_of(address, "--address")
        return lambda: ask_around(place)
    if file_here(file) is None:
        raise click.UsageError(
            f"whom to ask? Name the configuration with --config FILE or a running node with --address HOST:PORT; "
            f"there is no {DEFAULT_FILE} in this folder"
        )
    configuration = configuration_of(file, overrides)
    cluster = configuration.cluster.name
    addresses = {entry.name: str(entry.address) for entry in configuration.nodes}
    keys = keys_folder(configuration)
    return lambda: (cluster, with_joined(cluster, ask_nodes(cluster, addresses, keys=keys), keys))


def with_joined(cluster: str, nodes: Sequence[NodeStatus], keys: Path | None = None) -> list[NodeStatus]:
    """The same nodes, with those members asked too that are in no file, or are no longer where the file says."""
    listed = {node.name: node for node in nodes}
    elsewhere = {
        str(row["name"]): str(row["address"])
        for node in nodes
        for row in peers_of(node)
        if {"name", "address"} <= row.keys() and row.get("member") in ("alive", "suspect")
        if row["name"] not in listed or _has_moved(listed[row["name"]], row["address"])
    }
    if elsewhere:
        listed |= {node.name: node for node in ask_nodes(cluster, elsewhere, keys=keys)}
    return list(listed.values())


def _has_moved(node: NodeStatus, address: str) -> bool:
    return node.status is None and node.address != address


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
    """The tables of the nodes and of their exchange, and below them a line for each trouble between them."""
    made = table("node", "address", "state", "step", "loss", "ms/step", "merges", "MB in", "peers", "heard")
    answered = [(node.name, node.status) for node in nodes if node.status is not None]
    left = those_who_left(nodes)
    for node in nodes:
        name = shown(node.name)
        status = node.status
        if status is None:
            made.add_row(name, shown(node.address), state_cell("left" if node.name in left else "no answer"))
            continue
        figures = status.figures
        peers = peers_of(node)
        live = sum(row.get("state") == "live" for row in peers)
        made.add_row(
            name,
            shown(node.address),
            state_cell(status.state),
            numbers.progress(status.step, status.steps),
            numbers.loss(status.loss),
            numbers.milliseconds(figures.get("seconds_per_step") or None),
            numbers.merges(figures.get("merges"), figures.get("merges_skipped")),
            numbers.megabytes(figures.get("bytes_received")),
            f"{live}/{len(peers)}" if peers else numbers.NOTHING,
            f"{status.age:.1f} s" if status.age is not None else numbers.NOTHING,
        )
    exchange = exchange_table(answered)
    servers = server_lines(answered)
    parts = [part for part in (made, exchange, servers, trouble_lines(nodes)) if part is not None]
    return Group(Text(f"cluster {shown(cluster)}", style="bold"), *parts)
