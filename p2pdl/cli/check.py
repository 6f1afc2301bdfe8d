"""`p2pdl check`: what a configuration means, before anything runs, and whether its nodes reach each other."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.console import Console

from p2pdl.cli import COMMANDS, numbers
from p2pdl.cli.connection_table import show_connections
from p2pdl.cli.options import config_option, configuration_of, json_option, set_option
from p2pdl.cli.tables import output, table
from p2pdl.config import Configuration
from p2pdl.config.sections import NodeEntry
from p2pdl.errors import EXIT_DONE, EXIT_FAILED
from p2pdl.node.choice import is_local, is_this_machines
from p2pdl.node.connection_check import Connections, check_connections
from p2pdl.node.connection_client import Asking, asking
from p2pdl.node.connection_sighting import Expectation
from p2pdl.node.exchange_cost import exchange_cost
from p2pdl.node.inspection import Inspection, inspect
from p2pdl.node.shared_settings import shared_settings
from p2pdl.protocol.deadlines import PULL_BOUNDS
from p2pdl.spec import WeightSpec
from p2pdl.types import JsonObject

LINKS = (10.0, 50.0, 100.0, 300.0, 1000.0)
"""Mbit/s."""

USUAL_LINK = 100.0
"""Mbit/s: what an exchange is said to take in one line."""


@click.command("check", short_help=COMMANDS["check"])
@config_option
@set_option
@click.option(
    "--link",
    "links",
    metavar="MBIT",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    default=LINKS,
    show_default=", ".join(f"{rate:g}" for rate in LINKS),
    help="Rate of a link in Mbit/s to work out. May be given several times.",
)
@click.option("--connect", is_flag=True, help="Then look at every other node: is it there, and would it take part?")
@click.option(
    "--name",
    metavar="NAME",
    help="With --connect: the node that is to run on this machine.",
    show_default="the first one with an address of this machine",
)
@json_option
def command(
    file: str | None,
    overrides: tuple[str, ...],
    links: tuple[float, ...],
    connect: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Validate a configuration, load its data, build its model, and say what an exchange costs.

    Nothing is trained. With --connect, says of every other node which step on the way to it fails and what to do: its
    name, the route, the first bytes, keys, versions, settings and model. Ends with exit code 1 if one of them does.
    """
    if name is not None and not connect:
        raise click.UsageError("--name says from which node to look at the others: give --connect too")
    configuration = configuration_of(file, overrides)
    own = own_entry(configuration, name) if connect else None
    ways = asking(configuration, own) if connect else None
    try:
        inspection = inspect(configuration)
        connections = _connections(configuration, inspection, own, ways) if ways else None
    finally:
        if ways:
            ways.client.close()
    findings = _findings(configuration, inspection, links)
    if connections is not None:
        findings["connections"] = connections.to_json()
    if as_json:
        click.echo(json.dumps(findings, indent=2))
    else:
        _show(output(), findings)
        if connections is not None:
            show_connections(output(), connections)
    passed = connections is None or connections.passed
    click.get_current_context().exit(EXIT_DONE if passed else EXIT_FAILED)


def own_entry(configuration: Configuration, name: str | None) -> NodeEntry | None:
    """The node of this machine: the one that is named, or else the first one with an address of it, if there is one.

    Raises:
        NodeChoiceError: No node of the file has that name.
    """
    if name is not None:
        return configuration.node(name)
    return next((entry for entry in configuration.nodes if is_this_machines(entry)), None)


def _connections(
    configuration: Configuration, inspection: Inspection, own: NodeEntry | None, ways: Asking
) -> Connections:
    expected = Expectation(
        file=configuration.file.name,
        cluster=configuration.cluster.name,
        mechanism=ways.mechanism,
        settings=shared_settings(configuration),
        spec=WeightSpec.parse("\n".join(inspection.spec_rows)),
    )
    others = [entry for entry in configuration.nodes if entry is not own]
    return check_connections(expected, own, others, ways.client, ways.key)


def _findings(configuration: Configuration, inspection: Inspection, links: Sequence[float]) -> JsonObject:
    gossip = configuration.gossip
    cost = exchange_cost(gossip, configuration.compress, inspection.exchange_nbytes // 4)
    return {
        "file": str(configuration.file),
        "cluster": configuration.cluster.name,
        "strategy": configuration.strategy,
        "model": configuration.model.name,
        "parameters": inspection.parameters,
        "data": configuration.data.source,
        "dataset_size": inspection.dataset_size,
        "partition": configuration.data.partition,
        "model_bytes": inspection.exchange_nbytes,
        "model_digest": inspection.spec,
        "codec": configuration.compress.codec,
        "codec_on_the_wire": cost.codec,
        "fraction": f"1/{cost.parts}",
        "bytes_per_pull": cost.nbytes,
        "bytes_of_first_pull": cost.first_nbytes,
        "bytes_are_estimates": cost.is_estimate,
        "pulls_per_exchange": cost.pulls,
        "seconds_per_exchange_at_100_mbit": cost.pulls * seconds_on(USUAL_LINK, cost.nbytes),
        "nodes": [
            {
                "name": entry.name,
                "address": str(entry.address),
                "local": is_local(entry.address),
                "samples": inspection.samples.get(entry.name),
                "steps": inspection.steps.get(entry.name),
            }
            for entry in configuration.nodes
        ],
        "links": [link_figures(cost.nbytes, cost.pulls, gossip.timeout, rate) for rate in links],
    }


def seconds_on(rate: float, nbytes: int) -> float:
    """Seconds that bytes take on a link of so many Mbit/s that carries nothing else."""
    return 8 * nbytes / (1e6 * rate)


def link_figures(nbytes: int, pulls: int, timeout: float | None, rate: float) -> JsonObject:
    """What a link allows that carries nothing else.

    Args:
        nbytes: Bytes of one pull.
        pulls: Pulls of one exchange.
        timeout: Seconds that a pull may take; None if that is learnt.
        rate: Mbit/s.
    """
    seconds = seconds_on(rate, nbytes)
    return {
        "mbit_per_second": rate,
        "seconds_per_pull": seconds,
        "exchanges_per_minute": 60 / (seconds * pulls),
        "within_timeout": seconds < (timeout or PULL_BOUNDS.initial),
    }


def _exchange(findings: JsonObject) -> str:
    pulls, codec, parts = (findings[key] for key in ("pulls_per_exchange", "codec_on_the_wire", "fraction"))
    about = "about " if findings["bytes_are_estimates"] else ""
    size = numbers.significant(findings["bytes_per_pull"] / 1e6)
    text = f"an exchange: {pulls} pull{'' if pulls == 1 else 's'} of {about}{size} MB in {codec}"
    if parts != "1/1":
        text += f", {parts} of the model"
    text += f"; {about}{numbers.significant(findings['seconds_per_exchange_at_100_mbit'])} s at {USUAL_LINK:g} Mbit/s"
    if findings["codec"] == "auto":
        text += "\nauto begins with this codec, and then takes what each link carries between two exchanges"
    first = findings["bytes_of_first_pull"]
    if first > findings["bytes_per_pull"]:
        text += f"\nthe first pull takes everything: at most {numbers.significant(first / 1e6)} MB"
    return text


def _show(console: Console, findings: JsonObject) -> None:
    console.print(
        f"{findings['file']} is right: cluster {findings['cluster']}, strategy {findings['strategy']}\n"
        f"model {findings['model']}: {findings['parameters']:,} parameters, "
        f"{findings['model_bytes'] / 1e6:.2f} MB as float32\n"
        f"data {findings['data']}: {findings['dataset_size']:,} training samples, divided by {findings['partition']}",
        soft_wrap=True,
    )
    nodes = table("node", "address", "", "samples", "steps")
    for node in findings["nodes"]:
        here = "this machine" if node["local"] else ""
        nodes.add_row(node["name"], node["address"], here, numbers.count(node["samples"]), numbers.count(node["steps"]))
    console.print(nodes)
    if findings["strategy"] != "gossip":
        return
    console.print(_exchange(findings), soft_wrap=True)
    links = table("link, Mbit/s", "seconds a pull", "exchanges a minute", "")
    for link in findings["links"]:
        links.add_row(
            f"{link['mbit_per_second']:g}",
            numbers.significant(link["seconds_per_pull"]),
            numbers.significant(link["exchanges_per_minute"]),
            "" if link["within_timeout"] else "longer than gossip.timeout",
        )
    console.print(links)
