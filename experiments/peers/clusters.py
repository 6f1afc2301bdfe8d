"""Runs one strategy of TensorFlow's: all its tasks on this machine, from start to figures."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from experiments.peers.children import Children
from experiments.peers.figures import MIRRORED, PARAMETER_SERVER
from experiments.peers.task import COORDINATOR, SERVER, WORKER, Task
from experiments.peers.work import Work
from experiments.running import free_ports
from p2pdl.node.children import trainer_environment
from p2pdl.node.local_nodes import cores

ROOT = Path(__file__).parents[2]


def train(strategy: str, work: Work, folder: Path, limit: float, form: str = "keras") -> dict[str, Any]:
    """Train once.

    Args:
        strategy: `parameter-server` or `mirrored`.
        work: What is trained.
        folder: Takes logs and results.
        limit: Seconds that it may take from start to end.
        form: How a parameter server's step is written.

    Returns:
        steps, steps_per_second, seconds_per_step (median, p90) and accuracy.

    Raises:
        ProcessDied: A task has failed, or they take too long.
    """
    train_one = {PARAMETER_SERVER: parameter_server, MIRRORED: mirrored}[strategy]
    with Children(folder) as children:
        return train_one(children, work, folder, limit, form)


def parameter_server(children: Children, work: Work, folder: Path, limit: float, form: str) -> dict[str, Any]:
    """A coordinator, one parameter server, and the workers."""
    addresses = own_addresses(work.workers + 2)
    cluster = {"chief": addresses[:1], "ps": addresses[1:2], "worker": addresses[2:]}
    start(children, cluster, "ps", 0, Task(SERVER))
    for number in range(work.workers):
        start(children, cluster, "worker", number, Task(SERVER, number))
    result = folder / "coordinator.json"
    task = Task(COORDINATOR, 0, form, work.to_argument(), str(result))
    start(children, cluster, "chief", 0, task)
    children.wait(["chief0"], limit)
    figures: dict[str, Any] = json.loads(result.read_text())
    return figures


def mirrored(children: Children, work: Work, folder: Path, limit: float, form: str) -> dict[str, Any]:
    """Workers alone; the form is Keras'."""
    cluster = {"worker": own_addresses(work.workers)}
    results = [folder / f"worker{number}.json" for number in range(work.workers)]
    for number, result in enumerate(results):
        start(children, cluster, "worker", number, Task(WORKER, number, "", work.to_argument(), str(result)))
    children.wait([f"worker{number}" for number in range(work.workers)], limit)
    seen = [json.loads(result.read_text()) for result in results]
    rate = min(one["steps_per_second"] for one in seen)
    seconds = {key: statistics.median(one["seconds_per_step"][key] for one in seen) for key in ("median", "p90")}
    return {**seen[0], "steps_per_second": rate, "seconds_per_step": seconds}


def start(children: Children, cluster: dict[str, list[str]], job: str, index: int, task: Task) -> None:
    """Start one task; the workers share the cores as p2pdl's nodes do."""
    threads = max(1, cores() // len(cluster["worker"])) if job == "worker" else 0
    environment = trainer_environment(threads)
    if threads:
        environment.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})
    environment["PYTHONPATH"] = f"{ROOT}:{environment.get('PYTHONPATH', '')}".rstrip(":")

    def command(lifeline: int) -> list[str]:
        return [sys.executable, "-m", "experiments.peers.task", task.with_lifeline(lifeline).to_argument()]

    children.start(f"{job}{index}", command, environment)


def own_addresses(count: int) -> list[str]:
    """Addresses of this machine at which nobody listens now."""
    return [f"127.0.0.1:{port}" for port in free_ports(count)]
