"""The command line of the benchmark."""

from __future__ import annotations

import os
import signal
import sys

import click

from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError
from tools.benchmarks import report
from tools.benchmarks.families import ALL, FAMILIES, chosen, measure
from tools.benchmarks.measurement import Effort, Result, Row


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[ROWS]...", nargs=-1)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Pairs of each row.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--list", "lists", is_flag=True, help="Print what can be measured, and measure nothing.")
@click.option("--trial", is_flag=True, help="Make everything tiny: tries the benchmark out, says nothing of p2pdl.")
def command(names: tuple[str, ...], repeats: int, as_json: bool, lists: bool, trial: bool) -> None:
    """Measure p2pdl against named references.

    ROWS are names of rows or families, or `all`; without any, all rows that take seconds. What is measured and its
    reference take turns, so that a machine whose speed drifts changes both alike. Each row has processes of its own.
    """
    if lists:
        report.show_rows()
        return
    rows = rows_of(names)
    # As an exception, so that the processes are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    effort = Effort(repeats, trial)
    where = report.machine()
    results: list[Result] = []
    code = 0
    try:
        for row in rows:
            click.echo(f"measuring {row.name} ...", err=True)
            load = os.getloadavg()[0]
            results.append(Result(row, measure(row, effort), load))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except P2pdlError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    if results:
        (report.print_json if as_json else report.show)(where, effort, results)
    sys.exit(code)


def rows_of(names: tuple[str, ...]) -> list[Row]:
    """The rows that the command line names.

    Raises:
        UsageError: There is no row or family of a name.
    """
    try:
        return chosen(names)
    except KeyError as error:
        families = ", ".join(FAMILIES)
        raise click.UsageError(
            f"there is no row or family {error}; the families are {families} and {ALL}, and --list names the rows"
        ) from None


if __name__ == "__main__":
    command()
