"""Runs clusters for the experiments: each case is one `p2pdl up` on free ports, and what its summary says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.harness.data import DATA as DATA

GOSSIP, SINGLE = {"strategy": "gossip"}, {"strategy": "single"}


def data_file(name: str) -> Path:
    """A file of the data folder.

    Raises:
        SystemExit: It is not there.
    """
    path = DATA / name
    if not path.exists():
        sys.exit(f"this experiment needs {path}\n  -> set P2PDL_DATA to the folder that holds {name}")
    return path


def run_case(title: str, nodes: int, settings: dict[str, Any], servers: int = 0) -> dict[str, Any]:
    """Train one cluster on this machine.

    Args:
        title: Shown while it runs.
        nodes: How many nodes.
        settings: Sections of the configuration but `cluster` and `nodes`.
        servers: How many parameter servers besides.

    Returns:
        The cluster's summary.
    """
    print(f"running: {title} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="p2pdl-experiment-") as folder:
        ports = free_ports(nodes + servers)
        entries = [{"name": f"node{n + 1}", "address": f"127.0.0.1:{port}"} for n, port in enumerate(ports[:nodes])]
        for n, port in enumerate(ports[nodes:]):
            entries.append({"name": f"server{n + 1}", "address": f"127.0.0.1:{port}", "role": "server"})
        configuration = {"cluster": {"name": "experiment"}, "nodes": entries, **settings}
        file = Path(folder) / "peers.yaml"
        file.write_text(json.dumps(configuration))
        command = [sys.executable, "-m", "p2pdl", "up", "--config", str(file), "--json"]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        sys.exit(f"{title}: `p2pdl up` ended with exit code {finished.returncode}")
    summary: dict[str, Any] = json.loads(finished.stdout)
    return summary


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def table(rows: list[list[str]]) -> str:
    """Rows as aligned columns, the first row the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def accuracies(summary: dict[str, Any]) -> tuple[list[float], float | None]:
    """Test accuracy of each node before the final merge, and the consensus model's."""
    nodes = [
        (node["before_final_merge"] or node)["test_accuracy"]
        for node in sorted(summary["nodes"], key=lambda node: node["node"])
    ]
    consensus = summary["consensus"]
    return nodes, consensus["test_accuracy"] if consensus else None
