"""`p2pdl up`: every node of this machine under one live table."""

from __future__ import annotations

import contextlib
import json
import sys

import click
from rich.console import Console

from p2pdl.cli import COMMANDS
from p2pdl.cli.closing_table import show_results
from p2pdl.cli.live_table import LiveTable
from p2pdl.cli.observers import Messages, ProgressLines
from p2pdl.cli.options import config_option, configuration_of, fresh_option, json_option, set_option
from p2pdl.cli.tables import console_on, near, output
from p2pdl.errors import EXIT_FAILED, EXIT_USAGE
from p2pdl.node import local_nodes
from p2pdl.node.cluster import LocalCluster, Outcome
from p2pdl.node.cluster_summary import NodeSummaries, write_cluster_summary
from p2pdl.node.run_folder import create_run_folder, run_folder


@click.command("up", short_help=COMMANDS["up"])
@config_option
@fresh_option
@set_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress: only warnings, errors and the closing table.")
def command(file: str | None, fresh: bool, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Run every node of the file that is on this machine, each its own process, and show how they get on.

    The cores are divided among the nodes unless train.threads says otherwise. Ctrl-C stops all nodes, and their
    summaries are written; a second one ends them at once. A run that was stopped goes on where it was.
    """
    configuration = configuration_of(file, overrides)
    here = local_nodes.local_nodes(configuration)
    create_run_folder(configuration)
    names = local_nodes.nodes_to_run(configuration, here, fresh)
    ended = [name for name in here if name not in names]
    threads = local_nodes.shared_threads(configuration, len(names))
    passed_on = [*overrides, f"train.threads={threads}"]
    summaries = NodeSummaries(configuration, here, ended)
    console = console_on(sys.stderr)
    observer = _observer(console, as_json, quiet)
    if not quiet:
        running = f"running {', '.join(names)} of cluster {configuration.cluster.name} here"
        if ended:
            running += f" ({', '.join(ended)} had ended before)"
        console.print(
            f"{running}; threads for each: {threads}; results in {near(run_folder(configuration))}", soft_wrap=True
        )
    with observer if isinstance(observer, LiveTable) else contextlib.nullcontext():
        cluster = LocalCluster(
            configuration,
            names,
            lambda name, lifeline: local_nodes.node_command(configuration, name, passed_on, lifeline, fresh),
            observer,
        )
        outcome = cluster.run()
    if outcome.exit_code != EXIT_USAGE:
        left = summaries.read(outcome.failed, outcome.stopped)
        summary, model = write_cluster_summary(configuration, outcome.seconds, left)
        if as_json:
            click.echo(json.dumps(summary, indent=2))
        else:
            show_results(output(), summary, model)
    _name_the_failed(outcome)
    click.get_current_context().exit(outcome.exit_code)


def _observer(console: Console, as_json: bool, quiet: bool) -> Messages:
    if quiet:
        return Messages(console)
    if as_json or not console.is_terminal:
        return ProgressLines(console)
    return LiveTable(console)


def _name_the_failed(outcome: Outcome) -> None:
    if outcome.exit_code == EXIT_USAGE:
        click.echo(f"p2pdl: nothing runs: {', '.join(outcome.could_not_start)} could not start", err=True)
    elif outcome.exit_code == EXIT_FAILED:
        failed = ", ".join(f"{name} ({how})" for name, how in outcome.failed.items())
        click.echo(f"p2pdl: failed: {failed}", err=True)
