"""Eight nodes of which one after another is killed with -9 all end, with a model as good as if none had been.

Claim: every ten seconds a node's supervisor is killed with SIGKILL, its children die by themselves, and a second later
it is started again by the same command. Nobody does anything else; every node does all its steps and ends with exit
code 0, the consensus is within 0.5 points of an undisturbed run of the same seed, and nothing is left behind.
Source: the promises of this project, `docs/reliability.md`.
Command: python -m experiments.killed_nodes             about 10 minutes on two cores
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.running import data_file
from experiments.tables import output, table
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError
from tools.storm.events import Event
from tools.storm.observations import Observations
from tools.storm.plan import Plan
from tools.storm.promises import consensus, finished, returns, standstills
from tools.storm.running import braved
from tools.storm.schedule import round_robin

AWAY_SECONDS = 1.0
"""From a supervisor's death to the start of the next one."""

PATIENCE_SECONDS = 1800.0
"""How long the nodes may take after the last kill; a busy machine is no failure."""

POINTS = 0.5
"""What the kills may cost, in hundredths of the accuracy."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    try:
        with tempfile.TemporaryDirectory(prefix="p2pdl-killed-") as folder:
            rows = measure(arguments, Path(folder))
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps({"settings": vars(arguments), "rows": rows}))
    else:
        show(rows)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--every", type=float, default=10.0, help="seconds from one kill to the next")
    parser.add_argument("--rounds", type=int, default=1, help="how often each node is killed")
    parser.add_argument("--steps", type=int, default=4000, help="of each node: long enough for all kills")
    parser.add_argument("--width", type=float, default=0.25, help="of the mlp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="digits and two nodes: tries it out, shows nothing")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.nodes, arguments.every, arguments.steps, arguments.width = 2, 1.0, 600, 0.1
    if arguments.nodes < 2 or min(arguments.every, arguments.rounds, arguments.steps, arguments.width) <= 0:
        parser.error("counts and lengths have to be above zero, and nodes at least 2")
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train once undisturbed and once with the kills."""
    plan = planned(arguments)
    kills = round_robin(arguments.seed, plan.nodes, arguments.every, arguments.rounds, AWAY_SECONDS)
    rows: list[dict[str, Any]] = []
    for case, events in (("undisturbed", []), ("killed", kills)):
        print(f"running: {case} ...", file=sys.stderr, flush=True)
        load, began = os.getloadavg()[0], time.monotonic()
        seen = braved(plan, events, folder / case, PATIENCE_SECONDS, proxied=False)
        rows.append(row(case, events, seen, time.monotonic() - began, load, rows[0]["consensus"] if rows else None))
    return rows


def planned(arguments: argparse.Namespace) -> Plan:
    """The nodes and their configuration."""
    names = [f"node{number}" for number in range(1, arguments.nodes + 1)]
    sections = {
        "model": {"name": "mlp", "width": arguments.width},
        "data": {"source": "digits" if arguments.quick else f"npz:{data_file('mnist.npz').resolve()}"},
        "train": {"steps": arguments.steps, "batch_size": 64, "threads": 1, "seed": arguments.seed},
        "gossip": {"start_wait": 300, "linger": PATIENCE_SECONDS},
        "checkpoint": {"every": 1 if arguments.quick else 5},
        "metrics": {"interval": 0.5},
    }
    return Plan(arguments.seed, names, 0.0, arguments.every, ["kill"], sections)


def row(
    case: str, events: Sequence[Event], seen: Observations, seconds: float, load: float, reference: float | None
) -> dict[str, Any]:
    """The figures of a run.

    Args:
        case: Its name.
        events: The kills.
        seen: What was observed.
        seconds: Length of the run.
        load: Of the machine, when the run began.
        reference: The consensus of the undisturbed run; None if this is it.
    """
    accuracy, merged = consensus(seen.endings)
    took = [seconds for _, seconds in returns(seen)]
    whole = finished(seen)
    points = None if accuracy is None or reference is None else 100 * (accuracy - reference)
    struck = {stop.node for stop in seen.stops}
    broken = [*whole.broken, *(f"left: {what}" for what in seen.left)]
    broken += [f"{event.victim} was done before it was to be killed" for event in events if event.victim not in struck]
    if accuracy is None or (points is not None and points < -POINTS):
        broken.append("there is no consensus" if points is None else f"the consensus lies {-points:.2f} points lower")
    return {
        "case": case,
        "nodes": len(seen.endings),
        "steps": min((end.steps for end in seen.endings.values()), default=0),
        "kills": len(seen.stops),
        "return_seconds": took,
        "longest_gap_seconds": max((gap for node in seen.lines for gap, _ in standstills(seen, node)), default=None),
        "consensus": accuracy,
        "merged": merged,
        "points": points,
        "seconds": seconds,
        "load": load,
        "broken": broken,
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and below it what did not hold."""
    columns = (
        "nodes",
        "steps",
        "kills",
        "back after s",
        "longest gap s",
        "consensus",
        "of nodes",
        "points",
        "s",
        "load",
    )
    made = table("case", *columns, "", left=("case", "back after s", ""))
    for figures in rows:
        took = sorted(figures["return_seconds"])
        made.add_row(
            figures["case"],
            str(figures["nodes"]),
            str(figures["steps"]),
            str(figures["kills"]),
            f"{took[len(took) // 2]:.1f}, {took[-1]:.1f} at most" if took else "-",
            _number(figures["longest_gap_seconds"], ".1f"),
            _number(figures["consensus"], ".4f"),
            str(figures["merged"]),
            _number(figures["points"], "+.2f"),
            f"{figures['seconds']:.0f}",
            f"{figures['load']:.1f}",
            "does not hold" if figures["broken"] else "holds",
        )
    console = output()
    console.print(made)
    for figures in rows:
        for line in figures["broken"]:
            console.print(f"{figures['case']}: {line}", soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
