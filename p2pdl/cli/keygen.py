"""`p2pdl keygen`: keys for the nodes of a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from p2pdl.cli import COMMANDS
from p2pdl.cli.options import config_option, configuration_of, json_option, set_option
from p2pdl.cli.tables import near
from p2pdl.config import Configuration
from p2pdl.keys import ALLOWED_FILE, read_allowed
from p2pdl.node.choice import is_this_machines
from p2pdl.node.key_pairs import STATES, KeyPair, make_pairs


@click.command("keygen", short_help=COMMANDS["keygen"])
@config_option
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    help="A node to make a key for. May be given several times.",
    show_default="every node of the file that has none yet",
)
@click.option(
    "--operator",
    "operators",
    metavar="NAME",
    multiple=True,
    help="Somebody who may ask how the nodes are, but not take part. May be given several times.",
)
@click.option("--force", is_flag=True, help="Make a new key in the place of one that is there.")
@set_option
@json_option
def command(
    file: str | None,
    names: tuple[str, ...],
    operators: tuple[str, ...],
    force: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a secret key for each node of the file, and the list of the public keys of all.

    With these, connections are encrypted, and only who is on the list can take part. Says which file belongs on which
    machine. Keys that are there stay as they are.
    """
    configuration = configuration_of(file, overrides)
    pairs = make_pairs(configuration, names, operators, force=force)
    click.echo(json.dumps(as_object(configuration, pairs), indent=2) if as_json else report(configuration, pairs))


def as_object(configuration: Configuration, pairs: Sequence[KeyPair]) -> dict[str, object]:
    """What has been made, for machines to read; no secret is part of it."""
    folder = configuration.resolve(configuration.security.keys)
    return {
        "folder": str(folder),
        "allowed": str(folder / ALLOWED_FILE),
        "keys": [
            {
                "name": pair.name,
                "operator": pair.operator,
                "public": pair.public,
                "secret": str(pair.secret),
                "state": pair.state,
            }
            for pair in pairs
        ],
        "unknown": _unknown(configuration, folder),
    }


def report(configuration: Configuration, pairs: Sequence[KeyPair]) -> str:
    """What has been made, and which file belongs on which machine."""
    folder = configuration.resolve(configuration.security.keys)
    names = {state: ", ".join(pair.name for pair in pairs if pair.state == state) for state in STATES}
    lines = [f"{names[state]}: {meaning}" for state, meaning in STATES.items() if names[state]]
    files = [(near(folder / ALLOWED_FILE), "to every machine, into the folder of the same name")]
    for pair in pairs:
        if pair.state != "elsewhere":
            files.append((near(pair.secret), _destination(configuration, pair)))
    width = max(len(path) for path, _ in files)
    lines += ["", *(f"  {path:{width}}  {place}" for path, place in files)]
    if unknown := _unknown(configuration, folder):
        lines += [
            "",
            f"{', '.join(unknown)}: on the list, but not in {near(configuration.file)}; "
            "remove the line of whoever is to stay out",
        ]
    if configuration.security.mode == "none":
        lines += ["", f"{near(configuration.file)} says `security: none`: change that, or no key is used"]
    return "\n".join(lines)


def _destination(configuration: Configuration, pair: KeyPair) -> str:
    if pair.operator:
        return f"to the machine from which {pair.name} looks"
    entry = configuration.node(pair.name)
    if is_this_machines(entry):
        return "stays on this machine"
    return f"to {entry.address.host} and nowhere else; then remove it here"


def _unknown(configuration: Configuration, folder: Path) -> list[str]:
    """Who is on the list as a node, but not in the file: a node that joins, or one that is long gone."""
    listed = read_allowed(folder).values()
    return [key.name for key in listed if not key.operator and key.name not in configuration.names]
