"""The command line `p2pdl`. Only click is loaded until a command is used, so that help is there at once."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from p2pdl._version import VERSION
from p2pdl.errors import EXIT_FAILED, EXIT_INTERRUPTED, ConfigurationError, P2pdlError

COMMANDS = {
    "init": "Write a commented configuration to start from.",
    "keygen": "Make keys for the nodes, so that nobody else can take part.",
    "check": "Validate a configuration, say what its exchanges cost, and try its connections.",
    "up": "Run every node of this machine under one live table.",
    "node": "Run one node.",
    "status": "Ask the nodes of a cluster how they are.",
    "report": "Say what runs have come to, as tables, pictures and one page.",
}
"""Short help by the name of the command, in the order of use; `command` in the module of that name is the rest."""


class Commands(click.Group):
    """Knows its commands by name and short help, and loads the one that is used; turns errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Put the real command in the place of the one that only helps."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            command = import_module(f"p2pdl.cli.{command.name}").command
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever fails becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except P2pdlError as error:
            click.echo(explain(error), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            # click ends quietly when the reader of a pipe has gone, as in `p2pdl status | head -1`.
            reader_gone = isinstance(error, OSError) and error.errno == errno.EPIPE
            if reader_gone or os.environ.get("P2PDL_TRACEBACK"):
                raise
            click.echo(
                f"p2pdl: this should not have happened: {type(error).__name__}: {error}\n"
                "  -> set P2PDL_TRACEBACK=1 and type the same again to see where, and please report it",
                err=True,
            )
            ctx.exit(EXIT_FAILED)


def explain(error: P2pdlError) -> str:
    """An error as it stands on the terminal."""
    if isinstance(error, ConfigurationError) and len(error.problems) > 1:
        listed = str(error).replace("\n", "\n  ")
        return f"p2pdl: {len(error.problems)} mistakes in the configuration:\n  {listed}"
    return f"p2pdl: {error}"


@click.group(
    cls=Commands,
    commands={name: click.Command(name, short_help=text) for name, text in COMMANDS.items()},
    context_settings={
        "show_default": True,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
)
@click.version_option(VERSION, prog_name="p2pdl")
def program() -> None:
    """Train one Keras model on many machines with no server in the middle."""


def main() -> None:
    """The console script."""
    _open_closed_streams()
    program(prog_name="p2pdl")


def _open_closed_streams() -> None:
    """Let what is written to a closed standard stream vanish.

    The next file to be opened would take the stream's number, and get what is meant for people.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one; child processes are to have it too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
