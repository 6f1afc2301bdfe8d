"""One run of a cluster on shaped links: every node is a real `p2pdl node` on a host of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.network import ShapedNetwork
from experiments.training_figures import read_lines
from p2pdl.config import load
from p2pdl.errors import ProcessDied
from p2pdl.node.children import Lifeline
from p2pdl.node.cluster import how_it_ended
from p2pdl.node.local_nodes import node_command
from p2pdl.node.run_folder import run_folder
from p2pdl.node.stopping import WATCH_SECONDS
from p2pdl.training.recorder import duration

ROOT = Path(__file__).parents[1]
CLUSTER, PORT = "shaped", 7101
PROGRESS_SECONDS = 10.0


def train_once(
    network: ShapedNetwork, folder: Path, sections: Mapping[str, Any], title: str
) -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Train one cluster to its end, with a node on each host.

    Args:
        network: The hosts.
        folder: A new folder, for the configuration and the run.
        sections: The configuration without `cluster` and `nodes`.
        title: Shown with the progress.

    Returns:
        For each node the lines of its `metrics.jsonl` and its `summary.json`.

    Raises:
        ProcessDied: A node has not ended well.
    """
    entries = [{"name": f"node{n + 1}", "address": f"{network.address(n)}:{PORT}"} for n in range(network.hosts)]
    folder.mkdir()
    file = folder / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": CLUSTER}, "nodes": entries, **sections}))
    configuration = load(file, ())
    folders = {name: run_folder(configuration) / name for name in configuration.names}
    with contextlib.ExitStack() as stack:
        lifeline = Lifeline()
        stack.callback(lifeline.close)
        processes = {}
        for host, name in enumerate(folders):
            said = stack.enter_context((folder / f"{name}.out").open("wb"))
            processes[name] = network.run(
                host,
                node_command(configuration, name, (), lifeline.reading),
                pass_fds=[lifeline.reading],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                # Ctrl-C of the terminal comes to this process alone, which then ends the nodes.
                process_group=0,
            )
        wait(processes, folder, folders, title)
    return {
        name: (read_lines(own / "metrics.jsonl"), json.loads((own / "summary.json").read_text()))
        for name, own in folders.items()
    }


def wait(
    processes: Mapping[str, subprocess.Popen[bytes]], folder: Path, folders: Mapping[str, Path], title: str
) -> None:
    """Wait until every node is done, and say how far they are.

    Raises:
        ProcessDied: One of them has not ended well.
    """
    next_line = 0.0
    left = set(processes)
    while left:
        for name in sorted(left):
            code = processes[name].poll()
            if code:
                last = (folder / f"{name}.out").read_text(errors="replace")[-2000:]
                raise ProcessDied(f"{name} has ended too early ({how_it_ended(code)}); it said:\n{last}")
            if code == 0:
                left.discard(name)
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + PROGRESS_SECONDS
            print(f"{title}: {progress(folders)}", file=sys.stderr, flush=True)
        time.sleep(WATCH_SECONDS)


def progress(folders: Mapping[str, Path]) -> str:
    """How far the slowest node is, in words."""
    latest = [lines[-1:] for folder in folders.values() for lines in [read_lines(folder / "metrics.jsonl")]]
    if not all(latest):
        return "starting"
    [line] = min(latest, key=lambda lines: lines[0]["step"])
    pace = f"{line['seconds_per_step']:.3g} s a step, {duration(line['seconds_left'])} left"
    return f"step {line['step']}, {pace}"
