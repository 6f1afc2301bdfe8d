"""The nodes of the file that are on this machine, and what each of them is started with by `p2pdl up`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from p2pdl.config import Configuration
from p2pdl.errors import NodeChoiceError
from p2pdl.node.choice import is_this_machines
from p2pdl.node.resumption import has_ended_run, has_unfinished_run
from p2pdl.node.run_folder import run_folder
from p2pdl.types import NodeId


def local_nodes(configuration: Configuration) -> list[NodeId]:
    """The nodes whose address is this machine's, in the order of the file.

    Raises:
        NodeChoiceError: There are none.
    """
    found = [entry.name for entry in configuration.nodes if is_this_machines(entry)]
    if not found:
        addresses = ", ".join(f"{entry.name} {entry.address}" for entry in configuration.nodes)
        raise NodeChoiceError(
            f"no node of {configuration.file} has an address of this machine ({addresses})",
            "correct the addresses under `nodes`, or run one of them here with `p2pdl node --name NAME`",
        )
    return found


def nodes_to_run(configuration: Configuration, names: Sequence[NodeId], fresh: bool) -> list[NodeId]:
    """Of this machine's nodes those that have something to do.

    Where a run has not ended, these are the nodes that have not done their part of it; otherwise all of them.

    Args:
        configuration: The cluster.
        names: This machine's nodes.
        fresh: True to begin a new run in any case.
    """
    folder = run_folder(configuration)
    if fresh or not any(has_unfinished_run(folder / name) for name in names):
        return list(names)
    return [name for name in names if not has_ended_run(folder / name)]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_threads(configuration: Configuration, nodes: int) -> int:
    """Threads for each of so many nodes on this machine: as configured, or an equal part of the cores."""
    return configuration.train.threads or max(1, cores() // nodes)


def node_command(
    configuration: Configuration, node: NodeId, overrides: Sequence[str], lifeline: int, fresh: bool = False
) -> list[str]:
    """The command line that runs one node.

    Args:
        configuration: The cluster.
        node: The node's name.
        overrides: `section.key=value`, each passed on with `--set`.
        lifeline: The reading end of a pipe that closes when the caller is gone.
        fresh: True to begin a new run where one has not ended.
    """
    command = [sys.executable, "-m", "p2pdl", "node", "--config", str(configuration.file), "--name", node]
    for override in overrides:
        command += ["--set", override]
    if fresh:
        command.append("--fresh")
    return [*command, "--lifeline", str(lifeline)]
