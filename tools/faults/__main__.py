"""`python -m tools.faults`: a link with faults, for trying things out by hand."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict

import click

from tools.faults.faults import Faults, Way
from tools.faults.proxy import FaultProxy

WAYS = ("both", "to-target", "from-target")
"""Which way faults are for."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--target", required=True, metavar="HOST:PORT", help="Where to forward to.")
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="[HOST:]PORT", help="Where to listen.")
@click.option(
    "--way", type=click.Choice(WAYS), default=WAYS[0], show_default=True, help="Which way the faults are for."
)
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Delay each byte.")
@click.option(
    "--bandwidth", type=click.FloatRange(min=0, min_open=True), metavar="BYTES", help="Carry so many bytes a second."
)
@click.option("--black-hole", is_flag=True, help="Let what is sent vanish, and keep connections open.")
@click.option("--corrupt-every", type=click.IntRange(min=1), metavar="BYTES", help="Damage one byte of so many.")
@click.option("--corrupt-at", type=click.IntRange(min=0), metavar="PLACE", help="Damage this byte of each connection.")
@click.option("--cut-after", type=click.IntRange(min=0), metavar="BYTES", help="Cut each connection after so many.")
@click.option("--refuse", is_flag=True, help="Reset new connections.")
@click.option("--fin", is_flag=True, help="Cut with FIN in place of RST.")
def command(
    target: str,
    listen: str,
    way: str,
    latency: float,
    bandwidth: float | None,
    black_hole: bool,
    corrupt_every: int | None,
    corrupt_at: int | None,
    cut_after: int | None,
    refuse: bool,
    fin: bool,
) -> None:
    """Forward TCP connections over a link with faults, until Ctrl-C.

    Put the proxy's address in place of a node's `address` in the others' file, and let the node `bind` its own.
    """
    faulty = Way(latency, bandwidth or float("inf"), black_hole, corrupt_every or 0, corrupt_at, cut_after)
    faults = Faults(
        Way() if way == "from-target" else faulty, Way() if way == "to-target" else faulty, refuse, reset=not fin
    )
    ends = {signal.SIGINT, signal.SIGTERM}
    # Before the proxy's thread begins, which would else be told in place of this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        proxy = FaultProxy(target, faults, listen if ":" in listen else f"127.0.0.1:{listen}")
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot forward from {listen} to {target}: {error}") from None
    with proxy:
        click.echo(f"listening on {proxy.address}, forwarding to {target}; Ctrl-C ends")
        signal.sigwait(ends)
        for name, figure in asdict(proxy.counters()).items():
            click.echo(f"{name}: {figure}")


if __name__ == "__main__":
    sys.exit(command())
