"""One run of a cluster on this machine: every node is a real `p2pdl node`, on a link of its own where that matters."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures
from experiments.harness.figures import run_figures
from experiments.harness.hosts import Hosts
from experiments.harness.trained import trained_case
from experiments.training_figures import read_lines
from p2pdl.config import load
from p2pdl.errors import ProcessDied
from p2pdl.node.children import Lifeline
from p2pdl.node.local_nodes import cores, node_command
from p2pdl.node.restarts import how_it_ended
from p2pdl.node.run_folder import run_folder
from p2pdl.node.stopping import WATCH_SECONDS
from p2pdl.types import JsonObject

ROOT = Path(__file__).parents[2]
NAME = "experiment"
SAY_SECONDS = 1.0
SERVER_MODULE = "p2pdl.server.parameter_process"
KEPT = {"metrics.jsonl", "summary.json", "config.json", "environment.json"}
"""What is left of a node's folder: checkpoints and timelines are large."""


@dataclass(frozen=True)
class Cluster:
    """What is run.

    Attributes:
        sections: The configuration without `cluster`, `nodes` and `data.source`.
        data: What is trained on, see `experiments.harness.data`.
        nodes: How many train; they are named node1, node2, ...
        servers: How many parameter servers there are besides: server1, server2, ...
        links: Mbit/s of the links of some nodes, by their names or as `all`; an empty one makes links without limits.
            None for the machine's own loopback.
        killed: Nodes that are ended by `kill -9` in mid-run, and at which step of theirs; nobody starts them again.
        struck: Parameter servers whose server process is ended by `kill -9`, and at which step of node1; the node
            starts it again.
    """

    sections: JsonObject
    data: str
    nodes: int = 4
    servers: int = 0
    links: Mapping[str, float] | None = None
    killed: Mapping[str, int] = field(default_factory=dict)
    struck: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of all nodes, servers last."""
        return [f"node{n + 1}" for n in range(self.nodes)] + [f"server{n + 1}" for n in range(self.servers)]


def cluster_case(name: str, title: str, cluster: Cluster, minutes: float = 1.0) -> Case:
    """A case that runs a cluster once; its figures are those of `run_figures`."""
    return trained_case(name, title, cluster, train, minutes)


def train(desk: Desk, cluster: Cluster) -> Figures:
    """Run a cluster to its end.

    Args:
        desk: Takes what the run leaves, which `p2pdl report` reads.
        cluster: What to run.

    Returns:
        See `run_figures`.

    Raises:
        StartupError: There are no such links here, or the configuration is wrong.
        ProcessDied: A node has not ended well.
    """
    names = cluster.names
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(Hosts(names, cluster.links))
        desk.note(**hosts.facts(desk.say, measured=not desk.is_smoke))
        file = _write_configuration(desk.folder, cluster, hosts)
        configuration = load(file, ())
        folders = {name: run_folder(configuration) / name for name in names}
        lifeline = Lifeline()
        stack.callback(lifeline.close)
        processes = {}
        for name in names:
            said = stack.enter_context((desk.folder / f"{name}.out").open("wb"))
            processes[name] = hosts.run(
                name,
                node_command(configuration, name, (), lifeline.reading),
                pass_fds=[lifeline.reading],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                # Ctrl-C of the terminal comes to this process alone, which then ends the nodes.
                process_group=0,
            )
            stack.callback(_end, processes[name])
        _wait(desk, cluster, processes, folders)
    found = run_figures(run_folder(configuration), names)
    _leave(folders)
    return found


def _write_configuration(folder: Path, cluster: Cluster, hosts: Hosts) -> Path:
    """The file that the nodes are started with."""
    entries: list[dict[str, Any]] = []
    for name in cluster.names:
        entry = {"name": name, "address": hosts.address(name), "bind": hosts.bind(name)}
        entries.append(entry | ({"role": "server"} if name.startswith("server") else {}))
    sections = dict(cluster.sections)
    sections["data"] = {**sections.get("data", {}), "source": data.source(cluster.data, folder)}
    sections["train"] = {"threads": max(1, cores() // cluster.nodes), **sections.get("train", {})}
    if cluster.links is not None:
        # The hosts have no way out: nobody else is on their network.
        sections["security"] = {**sections.get("security", {}), "mode": "none"}
    file = folder / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": NAME}, "nodes": entries, **sections}, indent=1))
    return file


def _wait(
    desk: Desk,
    cluster: Cluster,
    processes: Mapping[str, subprocess.Popen[bytes]],
    folders: Mapping[str, Path],
) -> None:
    """Wait until every node is done, kill what is to be killed, and say how far they are.

    Raises:
        ProcessDied: One of them has not ended well.
    """
    said_at = 0.0
    left, to_kill, to_strike = set(processes), dict(cluster.killed), dict(cluster.struck)
    while left:
        for name in sorted(left):
            code = processes[name].poll()
            if code and name in cluster.killed and name not in to_kill:
                left.discard(name)
            elif code:
                last = (desk.folder / f"{name}.out").read_text(errors="replace")[-2000:]
                raise ProcessDied(f"{name} has ended too early ({how_it_ended(code)}); it said:\n{last}")
            elif code == 0:
                left.discard(name)
        if time.monotonic() >= said_at + SAY_SECONDS:
            said_at = time.monotonic()
            desk.say(*_progress([folders[name] for name in left if not name.startswith("server")]))
        for name, step in list(to_kill.items()):
            if _has_come_to(step, folders[name]):
                processes[name].kill()
                del to_kill[name]
        for name, step in list(to_strike.items()):
            if _has_come_to(step, folders[cluster.names[0]]):
                os.kill(server_process(processes[name].pid), signal.SIGKILL)
                del to_strike[name]
        time.sleep(WATCH_SECONDS)
    if missed := [*to_kill, *to_strike]:
        raise ProcessDied(f"the run was over before {missed[0]} was killed", "let it take more steps")


def _has_come_to(step: int, folder: Path) -> bool:
    lines = read_lines(folder / "metrics.jsonl")
    return bool(lines) and lines[-1]["step"] >= step


def server_process(node: int) -> int:
    """The id of the process that serves a parameter server's weights.

    Args:
        node: The id of the process of the node.

    Raises:
        ProcessDied: There is none just now.
    """
    for child in Path(f"/proc/{node}/task/{node}/children").read_text().split():
        if SERVER_MODULE in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
            return int(child)
    raise ProcessDied("a parameter server has no server process that could be killed")


def _progress(folders: Sequence[Path]) -> tuple[float | None, str]:
    """How far the slowest node is."""
    latest = [lines[-1:] for folder in folders for lines in [read_lines(folder / "metrics.jsonl")]]
    if not latest:
        return 1.0, "ending"
    if not all(latest):
        return None, "starting"
    [line] = max(latest, key=lambda lines: lines[0]["seconds_left"])
    done = line["seconds"] + line["seconds_left"]
    return (line["seconds"] / done if done else None), f"step {line['step']}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _leave(folders: Mapping[str, Path]) -> None:
    """Remove what is large, and not needed to report a run."""
    for folder in folders.values():
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in KEPT:
                path.unlink()
