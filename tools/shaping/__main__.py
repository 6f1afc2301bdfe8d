"""The command line that shapes a device: it prints lines of `tc`, and runs them only if told to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click

from experiments.network import QUEUE, queues
from p2pdl.errors import P2pdlError, StartupError

RATES = {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3}
"""Units, in millions of bits a second."""

LATENCIES = {"ms": 1.0, "s": 1e3}
"""Units, in milliseconds."""

LEAST_MBIT, MOST_MBIT = 0.01, 100_000.0
MOST_MILLISECONDS = 10_000.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("device")
@click.option("--rate", metavar="RATE", help="Such as 100mbit; units: kbit, mbit, gbit.")
@click.option("--latency", metavar="TIME", help="How late each packet is, such as 20ms; units: ms, s.")
@click.option("--apply", "applies", is_flag=True, help="Run the lines; needs root.")
@click.option("--undo", is_flag=True, help="Let the device be as it was; needs root.")
def main(device: str, rate: str | None, latency: str | None, applies: bool, undo: bool) -> None:
    """Limit what DEVICE sends; without --apply, print the lines of tc that would.

    What a device receives is limited where it is sent: shape every machine. Nothing here outlasts a restart of the
    machine. Mind that your own connection to a machine may pass over the device too.
    """
    try:
        _check_device(device)
        if undo:
            if rate or latency or applies:
                raise StartupError("--undo goes alone", f"tools/shape {device} --undo")
            _undo(device)
        else:
            lines = queues(device, *_wanted(device, rate, latency))
            if applies:
                _apply(device, lines)
            else:
                for line in lines:
                    click.echo(f"tc {' '.join(line)}")
                click.echo(f"# undone by: tc qdisc delete dev {device} root")
    except P2pdlError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)


def _check_device(device: str) -> None:
    folder = Path("/sys/class/net")
    devices = sorted(os.listdir(folder)) if folder.is_dir() else []
    if not devices:
        raise StartupError("this machine lists no network devices", "run it on Linux")
    if device not in devices:
        others = [name for name in devices if name != "lo"]
        raise StartupError(f"there is no network device {device}", f"take one of {', '.join(others) or 'lo'}")


def _wanted(device: str, rate: str | None, latency: str | None) -> tuple[float | None, float]:
    """Mbit/s and milliseconds.

    Raises:
        StartupError: They are none, or nobody's.
    """
    if rate is None and latency is None:
        raise StartupError("there is nothing to do", f"tools/shape {device} --rate 100mbit, or --undo")
    mbit = None if rate is None else _number("--rate", rate, RATES, "100mbit")
    if mbit is not None and not LEAST_MBIT <= mbit <= MOST_MBIT:
        raise StartupError(f"--rate {rate}: no link is like that", "take one from 10kbit to 100gbit")
    milliseconds = 0.0 if latency is None else _number("--latency", latency, LATENCIES, "20ms")
    if latency is not None and not 0 < milliseconds <= MOST_MILLISECONDS:
        raise StartupError(f"--latency {latency}: no link is like that", "take one above 0ms, up to 10s")
    return mbit, milliseconds


def _number(option: str, text: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", text.lower())
    if match is None or match[2] not in units:
        raise StartupError(
            f"{option} {text}: this is no number with a unit", f"write for example {example}; units: {', '.join(units)}"
        )
    return float(match[1]) * units[match[2]]


def _apply(device: str, lines: list[list[str]]) -> None:
    """Replace what was made here before; where a line fails, the device is as it was at first."""
    if _is_shaped(device):
        _tc(["qdisc", "delete", "dev", device, "root"])
    try:
        for line in lines:
            _tc(line)
    except StartupError:
        if _is_shaped(device):
            _tc(["qdisc", "delete", "dev", device, "root"])
        raise
    for line in lines:
        click.echo(f"done: tc {' '.join(line)}")


def _undo(device: str) -> None:
    if not _is_shaped(device):
        raise StartupError(f"{device} has no queue that tools/shape has made", f"see: tc qdisc show dev {device}")
    _tc(["qdisc", "delete", "dev", device, "root"])
    click.echo(f"{device} is as it was")


def _is_shaped(device: str) -> bool:
    """Whether the queue at the device's root is one of ours."""
    return any(
        line.split()[2:4] == [f"{QUEUE}:", "root"] for line in _tc(["qdisc", "show", "dev", device]).splitlines()
    )


def _tc(arguments: list[str]) -> str:
    """Run a line.

    Raises:
        StartupError: There is no `tc`, or it refuses.
    """
    if shutil.which("tc") is None:
        raise StartupError("there is no command tc", "install the package iproute2")
    done = subprocess.run(["tc", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        remedy = (
            "run it as root" if os.geteuid() else "the kernel lacks this kind of queue: try modprobe, or leave it out"
        )
        raise StartupError(f"`tc {' '.join(arguments)}` failed: {done.stderr.strip() or done.returncode}", remedy)
    return done.stdout


if __name__ == "__main__":
    main()
