"""Under every policy of a parameter server a kill -9 of a worker, or of the server, costs neither the run nor accuracy.

Claim: four workers and a server, MNIST, three passes. A worker killed with all its processes when the run is at half
is missed by nobody for longer than its lease; a server process killed then is started again, goes on from its
checkpoint, and the workers with it. Each run ends at the accuracy that `parameter_servers` asks of it.

Source: the promises of this project, `docs/reliability.md`.

All other settings are those of `parameter_servers`. Who stands still is seen by the first worker: the longest time
between two lines of its figures in which it took no step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from experiments.harness.cluster import NAME, Cluster, train
from experiments.harness.experiment import Case, Conclusion, Desk, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most
from experiments.harness.trained import trained_case
from experiments.parameter_servers import CASES, PARAMETER_SERVER, case_name
from experiments.training_figures import read_lines
from p2pdl.report.findings import BarChart, Bars, FoundTable, Promise
from p2pdl.report.words import decimals, seconds
from p2pdl.types import JsonObject

POLICIES = ("bsp", "ssp 3", "cui-ps", "adsp")
VICTIMS = {"worker": "a worker", "server": "the server"}
KILLED = {Size.SMOKE: ["server"], Size.SMALL: list(VICTIMS), Size.PAPER: list(VICTIMS)}
CHOSEN = {Size.SMOKE: ["cui-ps"], Size.SMALL: list(POLICIES), Size.PAPER: list(POLICIES)}
WORKERS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 4}
STEPS = {Size.SMOKE: 400, Size.SMALL: 704, Size.PAPER: 4688}
"""Of each worker, 64 samples each: three or twenty passes over a quarter of the data."""

MINUTES = {Size.SMOKE: 0.35, Size.SMALL: 1.4, Size.PAPER: 6.0}
LEASE = {Size.SMOKE: 3.0, Size.SMALL: 10.0, Size.PAPER: 10.0}
"""Seconds after which a worker that is not heard of is not waited for."""

STILL = 1.5
"""Times the lease that a run may stand still: a server takes moments to be started again, too."""

NOTES = [
    "A worker that is killed takes with it what it had still to train: with four workers an eighth of all samples.",
    "A server that is started again goes on from its last checkpoint; these are made every two seconds.",
]


def cases(size: Size) -> Sequence[Case]:
    settings = {title: settings for title, _, settings in CASES}
    return [_case(size, policy, victim, settings[policy]) for policy in CHOSEN[size] for victim in KILLED[size]]


def _name(policy: str, victim: str) -> str:
    return f"{case_name(policy)}-{victim}"


def _case(size: Size, policy: str, victim: str, settings: JsonObject) -> Case:
    workers, half = WORKERS[size], STEPS[size] // 2
    sections: JsonObject = {
        **PARAMETER_SERVER,
        **settings,
        "model": {"name": "mlp", "width": 0.25 if size == Size.SMOKE else 1.0},
        "server": {**settings["server"], "lease": LEASE[size]},
        "train": {"steps": STEPS[size], **settings.get("train", {})},
        "gossip": {"request_timeout": 2.0},
        "checkpoint": {"every": 2.0},
        "metrics": {"interval": 0.1 if size == Size.SMOKE else 0.5},
    }
    cluster = Cluster(
        sections,
        "digits" if size == Size.SMOKE else "mnist",
        nodes=workers,
        servers=1,
        killed={f"node{workers}": half} if victim == "worker" else {},
        struck={"server1": half} if victim == "server" else {},
    )
    title = f"{policy}, kill -9 of {VICTIMS[victim]}"
    return trained_case(_name(policy, victim), title, cluster, _train, MINUTES[size])


def _train(desk: Desk, cluster: Cluster) -> Figures:
    found = train(desk, cluster)
    lines = read_lines(desk.folder / "runs" / NAME / "node1" / "metrics.jsonl")
    return {**found, "stood_still": stood_still(lines), "seconds": lines[-1]["seconds"]}


def stood_still(lines: Sequence[Mapping[str, Any]]) -> float:
    """The longest time in which no step was taken.

    Args:
        lines: Of a worker's metrics.

    Returns:
        Seconds between two lines of which the second one tells of more steps; 0 with fewer than two such lines.
    """
    moved = [line for before, line in pairwise([{"step": -1}, *lines]) if line["step"] > before["step"]]
    return max((after["seconds"] - before["seconds"] for before, after in pairwise(moved)), default=0.0)


def conclude(size: Size, results: Results) -> Conclusion:
    floors = {title: floor for title, floor, _ in CASES}
    promises: list[Promise] = []
    for policy in CHOSEN[size]:
        for victim, words in VICTIMS.items():
            found = results.get(_name(policy, victim))
            what = f"{policy}, kill -9 of {words}"
            promises.append(at_least(f"{what}: accuracy", floors[policy], found and found["accuracy"]))
            promises.append(at_most(f"{what}: stood still", STILL * LEASE[size], found and found["stood_still"], " s"))
            missing = None if found is None else sum(STEPS[size] - done for done in _steps(found, size, victim))
            promises.append(at_most(f"{what}: steps that the living have not done", 0, missing))
    decided = [] if size == Size.SMOKE else promises
    if not results:
        return Conclusion("Nobody has been killed yet.", decided, notes=NOTES)
    rows = []
    for policy in CHOSEN[size]:
        for victim, words in VICTIMS.items():
            found = results.get(_name(policy, victim))
            if found is not None:
                steps = " ".join(str(done) for done in _steps(found, size, ""))
                still = decimals(found["stood_still"], 1)
                cells = [decimals(found["accuracy"], 4), decimals(floors[policy], 3), steps, still]
                rows.append([policy, words, *cells, seconds(found["seconds"])])
    heads = ["policy", "killed", "accuracy", "claimed", "steps of the workers", "stood still, s", "took"]
    worst = min(found["accuracy"] for found in results.values())
    sentence = f"{len(results)} runs with a kill -9 have ended; the least accurate one at {worst:.4f}"
    longest = max(found["stood_still"] for found in results.values())
    table = FoundTable("What a kill -9 costs, MNIST, mlp", heads, rows, names=2)
    return Conclusion(
        f"{sentence}, and nobody stood still for longer than {longest:.1f} s.",
        decided,
        [table],
        [_errors(size, results)],
        NOTES,
    )


def _steps(found: Figures, size: Size, victim: str) -> list[int]:
    """Of the workers that were to do all of them, or of all where no victim is named."""
    names = [f"node{number + 1}" for number in range(WORKERS[size])]
    living = names[:-1] if victim == "worker" else names
    return [((found["nodes"].get(name) or {}).get("summary") or {}).get("steps", 0) for name in living]


def _errors(size: Size, results: Results) -> BarChart:
    def errors(victim: str) -> list[float | None]:
        found = [results.get(_name(policy, victim)) for policy in CHOSEN[size]]
        return [None if one is None else 100 * (1 - one["accuracy"]) for one in found]

    return BarChart(
        "errors",
        "Test errors after a kill",
        "Share of the test samples that are not recognised; shorter is better.",
        "errors, %",
        CHOSEN[size],
        [Bars(f"{words} killed", errors(victim)) for victim, words in VICTIMS.items()],
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=51)
