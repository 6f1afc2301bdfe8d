"""Options that several commands share, and the configuration that they lead to."""

from __future__ import annotations

from pathlib import Path

import click

from p2pdl.config import Address, Configuration, load
from p2pdl.config.address import AddressError

DEFAULT_FILE = "peers.yaml"

config_option = click.option(
    "--config",
    "-c",
    "file",
    metavar="FILE",
    show_default=f"{DEFAULT_FILE} in this folder",
    help="The cluster's configuration.",
)
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Replace one setting of the file, such as train.passes=10. May be given several times.",
)
fresh_option = click.option(
    "--fresh", is_flag=True, help="Begin a new run where one has not ended; what that one left moves to earlier/."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout; everything else goes to stderr."
)


def address_of(text: str, option: str) -> str:
    """The `host:port` that an option gives.

    Raises:
        BadParameter: It is none.
    """
    try:
        return str(Address.parse(text))
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def node_at(text: str, option: str) -> tuple[str, str]:
    """The `host:port` and the name, empty where there is none, that an option gives as `[NAME@]HOST:PORT`.

    Raises:
        BadParameter: It is none.
    """
    name, _, address = text.rpartition("@")
    return address_of(address, option), name


def file_here(file: str | None) -> str | None:
    """The file that was named, or else the `peers.yaml` of the current folder if there is one."""
    return file or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None)


def configuration_of(file: str | None, overrides: tuple[str, ...]) -> Configuration:
    """The configuration that `--config` and `--set` say.

    Raises:
        UsageError: No file was named and there is no `peers.yaml` here.
        ConfigurationError: The file or a flag is wrong.
    """
    found = file_here(file)
    if found is None:
        raise click.UsageError(
            f"there is no {DEFAULT_FILE} in this folder: name the configuration with --config FILE, "
            "or write one with `p2pdl init`"
        )
    return load(found, overrides)
