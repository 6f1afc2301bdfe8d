"""Under every policy of a parameter server a kill -9 of a worker, or of the server, costs neither the run nor accuracy.

Claim: four workers and a server, MNIST, three passes. A worker killed with all its processes when the run is at half
is missed by nobody for longer than its lease; a server process killed then is started again, goes on from its
checkpoint, and the workers with it. Each run ends at the accuracy that `experiments.parameter_servers` asks of it.
Source: `docs/reliability.md`.
Command: python -m experiments.killed_servers           about 12 minutes on two cores

`stood still` is the longest time between two lines of a worker's figures in which it took no step.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.parameter_servers import CASES, PARAMETER_SERVER
from experiments.running import data_file, free_ports, table
from experiments.training_figures import read_lines

WORKERS, LEASE = 4, 10.0
STEPS = 704
"""Of 64 samples: three passes over a quarter of the data."""

POLL_SECONDS, PATIENCE_SECONDS = 0.2, 900.0
POLICIES = ("bsp", "ssp 3", "cui-ps", "adsp")
VICTIMS = {"worker": ("-m p2pdl node ", "--name worker4 "), "server": ("-m p2pdl.server.parameter_process ", "")}
"""What the command line of the process that is killed has in it."""


def main() -> int:
    chosen = sys.argv[1:] or POLICIES
    rows = [["case", "killed", "accuracy", "target", "", "s", "steps", "stood still", "lease"]]
    for title, floor, settings in CASES:
        if title not in chosen:
            continue
        for victim in VICTIMS:
            print(f"running: {title}, kill -9 of a {victim} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="p2pdl-experiment-") as folder:
                run = trained(settings, victim, Path(folder))
            accuracy = run["accuracy"]
            left = [name for name in run["steps"] if victim == "server" or name != "worker4"]
            # The server needs moments to be started again; a worker that is gone is waited for as long as its lease.
            holds = accuracy >= floor and all(run["steps"][name] == STEPS for name in left)
            rows.append(
                [
                    title,
                    victim,
                    f"{accuracy:.4f}",
                    f"{floor:g}",
                    "holds" if holds and run["stood_still"] <= 1.5 * LEASE else "does not hold",
                    f"{run['seconds']:.0f}",
                    " ".join(str(steps) for steps in run["steps"].values()),
                    f"{run['stood_still']:.1f}",
                    f"{LEASE:g}",
                ]
            )
    print(table(rows))
    return 0


def trained(settings: dict[str, Any], victim: str, folder: Path) -> dict[str, Any]:
    """Train with a kill at half.

    Args:
        settings: Sections of the configuration.
        victim: A key of `VICTIMS`.
        folder: For the run.

    Returns:
        accuracy, seconds, steps of each worker, and the longest time in which the first took no step.
    """
    ports = free_ports(WORKERS + 1)
    entries: list[dict[str, str]] = [{"name": "server", "address": f"127.0.0.1:{ports[0]}", "role": "server"}]
    entries += [{"name": f"worker{n}", "address": f"127.0.0.1:{port}"} for n, port in enumerate(ports[1:], 1)]
    configuration = {
        "cluster": {"name": "killed"},
        "nodes": entries,
        **PARAMETER_SERVER,
        **settings,
        "server": {**settings["server"], "lease": LEASE},
        "data": {"source": f"npz:{data_file('mnist.npz').resolve()}"},
        "train": {"steps": STEPS},
        "gossip": {"request_timeout": 2.0},
        "checkpoint": {"every": 2.0},
        "metrics": {"interval": 0.5},
    }
    file = folder / "peers.yaml"
    file.write_text(json.dumps(configuration))
    command = [sys.executable, "-m", "p2pdl", "up", "--config", str(file), "--json"]
    began = time.monotonic()
    figures = folder / "runs" / "killed" / "worker1" / "metrics.jsonl"
    # Lines go to a file: who waits for the kill reads no pipe.
    with (folder / "out").open("w+") as said, subprocess.Popen(command, stdout=said, cwd=folder) as process:
        try:
            _wait_for(STEPS // 2, process, figures)
            os.kill(_process_of(folder, *VICTIMS[victim]), signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
        said.seek(0)
        summary = json.load(said)
    workers = sorted((node for node in summary["nodes"] if node.get("role") != "server"), key=lambda node: node["node"])
    lines = read_lines(figures)
    return {
        "accuracy": summary["consensus"]["test_accuracy"] if summary["consensus"] else float("nan"),
        "seconds": time.monotonic() - began,
        "steps": {node["node"]: node.get("steps", 0) for node in workers},
        "stood_still": max(
            (after["seconds"] - before["seconds"] for before, after in _moves(lines)), default=float("nan")
        ),
    }


def _moves(lines: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each two lines between which the steps have gone on, without those in between that show no step."""
    moved = [line for before, line in pairwise([{"step": -1}, *lines]) if line["step"] > before["step"]]
    return list(pairwise(moved))


def _wait_for(step: int, process: subprocess.Popen[bytes], figures: Path) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        lines = read_lines(figures)
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(POLL_SECONDS)
    sys.exit(f"the run has not come to step {step}")


def _process_of(folder: Path, program: str, option: str) -> int:
    """The id of the one process whose command line names this folder, program and option."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if str(folder) in command and program in command and option in command:
                found.append(int(entry.name))
    if len(found) != 1:
        sys.exit(f"{len(found)} processes have {program!r} and {option!r} in their command line")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
