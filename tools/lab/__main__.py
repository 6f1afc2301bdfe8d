"""The command line of the laboratory: `tools/netlab`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from p2pdl.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, P2pdlError, StartupError
from tools.lab.choice import AUTO, KINDS, lab_for
from tools.lab.commands import commands_in, host_names, per_host
from tools.lab.contract import Lab, Line
from tools.lab.measuring import measure
from tools.lab.running import run_all


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--hosts", metavar="COUNT|NAMES", help="5 for host1 to host5, or server,worker1,worker2.")
@click.option("--rate", "rates", multiple=True, metavar="HOST=MBIT", help="Of a link, each way; `all` is a host too.")
@click.option("--latency", "latencies", multiple=True, metavar="HOST=MS", help="How late things are, each way.")
@click.option("--link", type=click.Choice([AUTO, *KINDS]), default=AUTO, show_default=True, help="Made of what.")
@click.option("--commands", "file", type=click.Path(path_type=Path), help="A file with a line HOST: COMMAND for each.")
@click.option("--until", metavar="HOST", help="End all when this host's command ends.  [default: when all have]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="End all after so many.")
@click.option("--unmeasured", is_flag=True, help="Do not check the rates before.")
@click.option("--result", type=click.Path(path_type=Path), help="Write what was asked, given and done to this file.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(
    hosts: str | None,
    rates: Sequence[str],
    latencies: Sequence[str],
    link: str,
    file: Path | None,
    until: str | None,
    seconds: float | None,
    unmeasured: bool,
    result: Path | None,
    command: Sequence[str],
) -> None:
    """Run COMMAND on each of some hosts whose links have chosen rates.

    In COMMAND, {host} is the host's name, {number} its number, {address} the host:port at which others reach it, {bind}
    the one where it has to listen; {address.server} is that of another host. Without COMMAND and --commands the links
    are measured only. Hosts are network namespaces for root on Linux; elsewhere they are ports of this machine, each
    behind a proxy with its rate. Ctrl-C ends everything.
    """
    # As an exception, so that the hosts are removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        commands = _commands(hosts, file, command)
        names = host_names(hosts if hosts is not None else ",".join(commands))
        _check(names, commands, until)
        asked, late = per_host("--rate", rates, names), per_host("--latency", latencies, names)
        lab, reason = lab_for([Line(asked.get(name), late.get(name, 0.0)) for name in names], link)
        if reason:
            click.echo(f"no namespaces here ({reason}): each host is a port behind a proxy", err=True)
        commands = commands or {name: list(command) for name in names if command}
        code = _run(lab, names, asked, late, commands, until, seconds, not unmeasured, result)
    except P2pdlError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _commands(hosts: str | None, file: Path | None, command: Sequence[str]) -> dict[str, list[str]]:
    """Those of the file; none without one."""
    if file is not None and command:
        raise StartupError("there are both --commands and a command", "leave one of them out")
    if file is None and hosts is None:
        raise StartupError("there are no hosts", "add --hosts COUNT, or --commands FILE")
    return commands_in(file) if file is not None else {}


def _check(names: Sequence[str], commands: Mapping[str, Sequence[str]], until: str | None) -> None:
    for name in (*commands, *([until] if until else [])):
        if name not in names or (commands and name not in commands):
            raise StartupError(f"there is no host {name!r} with a command", f"the hosts are {', '.join(names)}")


def _run(
    lab: Lab,
    names: Sequence[str],
    asked: Mapping[str, float],
    late: Mapping[str, float],
    commands: Mapping[str, Sequence[str]],
    until: str | None,
    seconds: float | None,
    measured: bool,
    file: Path | None,
) -> int:
    """Measure, run, and write the result; returns the exit code."""
    load = os.getloadavg()[0]
    codes: dict[str, int | None] = {}
    rows: dict[str, dict[str, Any]] = {}
    with lab:
        for host, name in enumerate(names):
            rows[name] = {"address": lab.address(host), "mbit": asked.get(name), "latency_ms": late.get(name, 0.0)}
        result: dict[str, Any] = {
            "link": lab.link,
            "latency_by": lab.latency_by or None,
            "cores": os.cpu_count(),
            "load": load,
        }
        result |= {"hosts": rows, "exit_codes": codes}
        _write(file, result)
        click.echo(f"link: {lab.link}" + (f"; latency by {lab.latency_by}" if lab.latency_by else ""), err=True)
        for host, name in enumerate(names):
            if measured and (name in asked or name in late):
                other = (host + 1) % len(names)
                found = measure(lab, host, asked.get(name), other, asked.get(names[other]))
                rows[name] |= {
                    "measured_out_mbit": found.out_mbit,
                    "measured_in_mbit": found.in_mbit,
                    "measured_round_trip_ms": found.round_trip_ms,
                    "is_near": found.is_near(asked[name]) if name in asked else None,
                }
                click.echo(_line(name, rows[name]), err=True)
        _write(file, result)
        if commands:
            codes |= run_all(lab, names, commands, until, seconds)
            _write(file, result)
    for name, code in codes.items():
        if code:
            click.echo(f"{name}: exit code {code}", err=True)
    return EXIT_FAILED if any(codes.values()) else EXIT_DONE


def _line(name: str, row: Mapping[str, Any]) -> str:
    """What was asked for and what is given, for people."""
    rate = "no limit" if row["mbit"] is None else f"{row['mbit']:g} Mbit/s"
    given = f"out {row['measured_out_mbit']:.4g}, in {row['measured_in_mbit']:.4g} Mbit/s of payload"
    late = f"{row['latency_ms']:g} ms late"
    doubt = "; MORE THAN A TENTH OFF, the machine may be busy" if row["is_near"] is False else ""
    return f"{name}: {rate}, {late}; {given}, round trip {row['measured_round_trip_ms']:.3g} ms{doubt}"


def _write(file: Path | None, result: Mapping[str, Any]) -> None:
    """Write what is known so far.

    Raises:
        StartupError: The file cannot be written.
    """
    if file is None:
        return
    try:
        file.write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise StartupError(f"{file} cannot be written: {error}", "name a file in a folder that is there") from None


if __name__ == "__main__":
    main()
