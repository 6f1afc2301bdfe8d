"""`p2pdl node`: one node."""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from p2pdl.cli import COMMANDS
from p2pdl.cli.options import config_option, configuration_of, fresh_option, json_option, node_at, set_option
from p2pdl.node.choice import claim_node
from p2pdl.node.joining import join
from p2pdl.node.run_folder import run_folder
from p2pdl.node.supervisor import run_node


@click.command("node", short_help=COMMANDS["node"])
@config_option
@click.option(
    "--name",
    metavar="NAME",
    show_default="the first entry with an address of this machine that does not run yet",
    help="Which node of the file this is.",
)
@click.option(
    "--join",
    "addresses",
    metavar="[NAME@]HOST:PORT",
    multiple=True,
    help="Any live node of the cluster: its settings are taken over, and through it the others are found. Where "
    "connections are encrypted, its name is needed if it is not in the file.",
)
@fresh_option
@set_option
@json_option
@click.option("--lifeline", type=int, hidden=True)
def command(
    file: str | None,
    name: str | None,
    addresses: tuple[str, ...],
    fresh: bool,
    overrides: tuple[str, ...],
    as_json: bool,
    lifeline: int | None,
) -> None:
    """Run one node of the cluster: its server, and its trainer.

    The same line starts a node on every machine, and a further one on the same machine. A run that has not ended goes
    on where it was. Ctrl-C finishes the step, saves and ends; a second one ends at once.
    """
    if lifeline is not None:
        _stop_when_closed(lifeline)
    places = dict(node_at(address, "--join") for address in addresses)
    configuration = configuration_of(file, overrides)
    claim = claim_node(configuration, name)
    notes: list[str] = []
    if places:
        configuration, notes = join(configuration, claim.node, places)
    if as_json:
        # A model function of the user's may print: only the summary belongs to standard output.
        output = os.dup(1)
        os.dup2(2, 1)
    code = run_node(configuration, claim.node, fresh=fresh, join=places, notes=notes)
    summary = run_folder(configuration) / claim.node / "summary.json"
    if as_json:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)
        if summary.exists():
            click.echo(summary.read_text().rstrip("\n"))
    claim.release()
    click.get_current_context().exit(code)


def _stop_when_closed(descriptor: int) -> None:
    """Stop as by SIGTERM when the other end of a pipe is closed: `p2pdl up` has gone, however it ended."""

    def watch() -> None:
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="p2pdl-lifeline", daemon=True).start()
