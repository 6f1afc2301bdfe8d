"""`p2pdl init`: a commented configuration to start from."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from p2pdl.cli import COMMANDS
from p2pdl.cli.keygen import report
from p2pdl.cli.options import DEFAULT_FILE
from p2pdl.config import load
from p2pdl.config.presets import PRESETS, template
from p2pdl.errors import StartupError
from p2pdl.node.key_pairs import make_pairs


@click.command("init", short_help=COMMANDS["init"])
@click.argument("path", default=DEFAULT_FILE)
@click.option("--preset", default=next(iter(PRESETS)), metavar="NAME", help=f"One of: {', '.join(PRESETS)}.")
@click.option("--keys", is_flag=True, help="Make a key for each of its nodes as well, as `p2pdl keygen` does.")
@click.option("--force", is_flag=True, help="Overwrite the file if it is there; keys are never overwritten.")
def command(path: str, preset: str, keys: bool, force: bool) -> None:
    """Write a commented configuration to PATH.

    The preset gossip has every key, and describes four nodes without a server. The others are systems with a parameter
    server to compare it with: a server and four workers, and the keys that matter. All run on this machine as they
    are, on data that need no download.
    """
    text = template(preset)
    target = Path(path)
    if target.is_dir():
        target /= DEFAULT_FILE
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise StartupError(
            f"{target} is there already and was left as it is", "name another file, or overwrite this one with --force"
        ) from None
    except OSError as error:
        raise StartupError(
            f"{target} cannot be written: {error.strerror}", "name a file in a folder that exists and is yours"
        ) from None
    shown = shlex.quote(str(target))
    configuration = load(target)
    nodes = "a server and four workers" if configuration.servers else "four nodes"
    click.echo(
        f"wrote {target}: {nodes} on this machine, to try out or to change\n\n"
        f"  p2pdl check --config {shown}     what it means: model, data, what links allow\n"
        f"  p2pdl up --config {shown}        train its nodes here\n"
        f"  p2pdl node --config {shown}      one node of it: the same line on each machine, with its addresses in it"
    )
    if keys:
        click.echo("\n" + report(configuration, make_pairs(configuration)))
