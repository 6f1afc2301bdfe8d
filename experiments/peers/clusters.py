"""Runs one strategy of TensorFlow's: all its tasks on this machine, from start to figures."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.hosts import Hosts
from experiments.peers.children import Children
from experiments.peers.figures import MIRRORED, PARAMETER_SERVER
from experiments.peers.task import COORDINATOR, SERVER, WORKER, Task
from experiments.peers.work import Work
from p2pdl.node.children import trainer_environment
from p2pdl.node.local_nodes import cores

ROOT = Path(__file__).parents[2]


def host_names(strategy: str, workers: int) -> list[str]:
    """What runs where: a task each."""
    first = ["chief0", "ps0"] if strategy == PARAMETER_SERVER else []
    return [*first, *(f"worker{number}" for number in range(workers))]


def train(
    strategy: str,
    work: Work,
    folder: Path,
    limit: float,
    form: str = "keras",
    hosts: Hosts | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train once.

    Args:
        strategy: `parameter-server` or `mirrored`.
        work: What is trained.
        folder: Takes logs and results.
        limit: Seconds that it may take from start to end.
        form: How a parameter server's step is written.
        hosts: Those of `host_names`, made already; this machine's loopback if None.
        meanwhile: Called over and over.

    Returns:
        steps, steps_per_second, seconds_per_step (median, p90), accuracy, and step_seconds, each one's.

    Raises:
        ProcessDied: A task has failed, or they take too long.
    """
    train_one = {PARAMETER_SERVER: parameter_server, MIRRORED: mirrored}[strategy]
    with contextlib.ExitStack() as stack:
        hosts = hosts or stack.enter_context(Hosts(host_names(strategy, work.workers), None))
        children = stack.enter_context(Children(folder, hosts.run))
        return train_one(Place(hosts, children, folder, limit, meanwhile), work, form)


@dataclass(frozen=True)
class Place:
    """Where a strategy runs.

    Attributes:
        hosts: One for each task.
        children: The tasks' processes.
        folder: Takes results.
        limit: Seconds that all may take.
        meanwhile: Called while they run.
    """

    hosts: Hosts
    children: Children
    folder: Path
    limit: float
    meanwhile: Callable[[], None]

    def wait(self, names: Sequence[str]) -> None:
        """Wait until these tasks have ended well."""
        self.children.wait(names, self.limit, self.meanwhile)


def parameter_server(place: Place, work: Work, form: str) -> dict[str, Any]:
    """A coordinator, one parameter server, and the workers."""
    cluster = {"chief": 1, "ps": 1, "worker": work.workers}
    start(place, cluster, "ps", 0, Task(SERVER))
    for number in range(work.workers):
        start(place, cluster, "worker", number, Task(SERVER, number))
    result = place.folder / "coordinator.json"
    start(place, cluster, "chief", 0, Task(COORDINATOR, 0, form, work.to_argument(), str(result)))
    place.wait(["chief0"])
    figures: dict[str, Any] = json.loads(result.read_text())
    return figures


def mirrored(place: Place, work: Work, form: str) -> dict[str, Any]:
    """Workers alone; the form is Keras'."""
    results = [place.folder / f"worker{number}.json" for number in range(work.workers)]
    for number, result in enumerate(results):
        task = Task(WORKER, number, "", work.to_argument(), str(result))
        start(place, {"worker": work.workers}, "worker", number, task)
    place.wait([f"worker{number}" for number in range(work.workers)])
    seen = [json.loads(result.read_text()) for result in results]
    rate = min(one["steps_per_second"] for one in seen)
    seconds = {key: statistics.median(one["seconds_per_step"][key] for one in seen) for key in ("median", "p90")}
    times = [value for one in seen for value in one["step_seconds"]]
    return {**seen[0], "steps_per_second": rate, "seconds_per_step": seconds, "step_seconds": times}


def start(place: Place, jobs: Mapping[str, int], job: str, index: int, task: Task) -> None:
    """Start one task; the workers share the cores as p2pdl's nodes do.

    Args:
        place: Where.
        jobs: How many tasks there are of each job.
        job: The task's.
        index: Its number among those of the job.
        task: What it does.
    """
    own = f"{job}{index}"
    cluster = {one: [place.hosts.address(f"{one}{number}") for number in range(count)] for one, count in jobs.items()}
    # Where others reach a task need not be where it listens itself.
    cluster[job][index] = place.hosts.bind(own)
    threads = max(1, cores() // jobs["worker"]) if job == "worker" else 0
    environment = trainer_environment(threads)
    if threads:
        environment.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})
    environment["PYTHONPATH"] = f"{ROOT}:{environment.get('PYTHONPATH', '')}".rstrip(":")

    def command(lifeline: int) -> list[str]:
        return [sys.executable, "-m", "experiments.peers.task", task.with_lifeline(lifeline).to_argument()]

    place.children.start(own, command, environment)
