"""A node without anybody to exchange with trains about as fast as one that was never meant to exchange.

Claim: a node whose four peers are all dead, and a node that is alone in its file, do at least 0.97 of the steps per
second of `strategy: single` with the same settings.

Source: the promises of this project, `docs/reliability.md`.

All three nodes are started, and stopped by SIGSTOP; then each in turn goes on for some seconds, in an order that is
reversed every time. So whatever else the machine does falls upon all three alike, and each round gives a ratio.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.harness import data
from experiments.harness.experiment import Case, Conclusion, Desk, Figures, Results, Size, experiment
from experiments.harness.promises import at_least
from experiments.ports import free_ports
from experiments.training_figures import read_lines
from p2pdl.errors import ProcessDied
from p2pdl.report.findings import BarChart, Bars, FoundTable
from p2pdl.report.words import decimals
from p2pdl.types import JsonObject
from tools.storm.cluster import StormCluster, StormNode

TARGET = 0.97

SINGLE, ALONE, DEAD = "single", "alone in its file", "four dead peers"

START_SECONDS = 300.0
"""How long three nodes may take to load TensorFlow and to do their first steps."""

WARM_UP_STEPS = 10

SETTLE_SECONDS = 0.5
"""After a node goes on, what is not counted: its memory comes back into the caches."""

LINE_SECONDS = 0.1
PROCESSES = ("supervisor", "server", "trainer")

ENDLESS = 100_000_000
LEARNING_RATE = 1e-4
"""Noise teaches nothing: small enough for weights to stay finite."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        name: A built-in model.
        width: Factor on its width.
        batch: Samples of a step.
        data: Noise of the model's shape.
    """

    name: str
    width: float
    batch: int
    data: str


MODELS = {
    "mlp": Model("mlp", 1.0, 64, "noise-mnist"),
    "vgg19-quarter": Model("vgg19", 0.25, 32, "noise-cifar10"),
    "vgg19": Model("vgg19", 1.0, 32, "noise-cifar10"),
}
CHOSEN = {Size.SMOKE: ["mlp"], Size.SMALL: ["mlp", "vgg19-quarter"], Size.PAPER: list(MODELS)}
ROUNDS = {Size.SMOKE: 1, Size.SMALL: 40, Size.PAPER: 60}
"""How often each node has its turn."""

TURN = {Size.SMOKE: 1.5, Size.SMALL: 3.0, Size.PAPER: 10.0}
"""Seconds of one."""

MINUTES = {Size.SMOKE: 0.5, Size.SMALL: 6.5, Size.PAPER: 35.0}
NOTES = [
    "One round's ratio varies by about 0.15, so that the median of 40 is known to about 0.03.",
    "Exchanging itself costs something, too: `tools/bench step` measures that.",
]


def cases(size: Size) -> Sequence[Case]:
    return [_case(size, name) for name in CHOSEN[size]]


def _case(size: Size, name: str) -> Case:
    model, rounds, turn = MODELS[name], ROUNDS[size], TURN[size]
    settings: JsonObject = {"model": asdict(model), "rounds": rounds, "turn_seconds": turn}
    return Case(
        name, f"{name}, {rounds} rounds", settings, lambda desk: _work(desk, model, rounds, turn), MINUTES[size]
    )


def _work(desk: Desk, model: Model, rounds: int, turn: float) -> Figures:
    """Let the three nodes train in turn.

    Raises:
        ProcessDied: A node has ended, or has done no steps.
    """
    source = data.source(model.data, desk.folder)
    with contextlib.ExitStack() as stack:
        nodes = {}
        for number, case in enumerate((SINGLE, ALONE, DEAD)):
            desk.say(None, f"starting: {case}")
            ports = free_ports(4) if case == DEAD else []
            others = [{"name": f"dead{other}", "address": f"127.0.0.1:{port}"} for other, port in enumerate(ports)]
            folder = desk.folder / f"node{number}"
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            cluster = StormCluster(folder, ["node1"], sections(model, case, source), others=others)
            nodes[case] = stack.enter_context(cluster).nodes["node1"]
            nodes[case].start()
            wait_for_steps(nodes[case])
            send(nodes[case], signal.SIGSTOP)
        rates: dict[str, list[float]] = {case: [] for case in nodes}
        for number in range(rounds):
            for case in list(nodes)[:: 1 if number % 2 else -1]:
                rates[case].append(steps_per_second(nodes[case], turn))
            desk.say((number + 1) / rounds, f"round {number + 1} of {rounds}")
    return {case: figures(rates[case], rates[SINGLE]) for case in rates}


def sections(model: Model, case: str, source: str) -> dict[str, Any]:
    """The configuration but for its nodes; the data are split as for one node, so that all train on the same."""
    return {
        "model": {"name": model.name, "width": model.width},
        "data": {"source": source, "partition": "all"},
        "train": {
            "steps": ENDLESS,
            "batch_size": model.batch,
            "optimizer": {"learning_rate": LEARNING_RATE},
        },
        "strategy": "single" if case == SINGLE else "gossip",
        "metrics": {"interval": LINE_SECONDS},
    }


def wait_for_steps(node: StormNode) -> None:
    """Wait until a node has done its first steps.

    Raises:
        ProcessDied: It has ended, or takes too long.
    """
    give_up_at = time.monotonic() + START_SECONDS
    while not any(line["step"] >= WARM_UP_STEPS for line in read_lines(node.folder / "metrics.jsonl")):
        if node.supervisor is None or time.monotonic() > give_up_at:
            raise ProcessDied(f"the node has done no steps; it said:\n{node.last_words()}")
        time.sleep(0.1)


def send(node: StormNode, number: signal.Signals) -> None:
    """Send a signal to all processes of a node.

    Raises:
        ProcessDied: It has none.
    """
    if not node.signal("supervisor", number):
        raise ProcessDied(f"the node has ended; it said:\n{node.last_words()}")
    for role in PROCESSES[1:]:
        node.signal(role, number)


def steps_per_second(node: StormNode, seconds: float) -> float:
    """Let a node that is stopped go on for so long; the steps that it does in a second."""
    send(node, signal.SIGCONT)
    began = time.time()
    time.sleep(seconds)
    send(node, signal.SIGSTOP)
    return rate(read_lines(node.folder / "metrics.jsonl"), began + SETTLE_SECONDS)


def rate(lines: Sequence[Mapping[str, Any]], since: float) -> float:
    """Steps per second from the first line on that was written after a moment.

    Args:
        lines: Of `metrics.jsonl`.
        since: Seconds since 1970.

    Raises:
        ProcessDied: There are fewer than two lines.
    """
    counted = [line for line in lines if line["time"] >= since]
    if len(counted) < 2:
        raise ProcessDied("a node has hardly done a step in its turn", "let the turns be longer")
    first, last = counted[0], counted[-1]
    return float((last["step"] - first["step"]) / (last["time"] - first["time"]))


def figures(rates: Sequence[float], single: Sequence[float]) -> JsonObject:
    """One node's rate (`steps_per_second`), and those over the rates of the single node in the same rounds: all
    `ratios`, and their median, `ratio`."""
    ratios = [ours / theirs for ours, theirs in zip(rates, single, strict=True)]
    return {"steps_per_second": statistics.median(rates), "ratio": statistics.median(ratios), "ratios": ratios}


def conclude(size: Size, results: Results) -> Conclusion:
    promises = []
    for name in CHOSEN[size]:
        found = results.get(name)
        for case in (ALONE, DEAD):
            what = f"{name}, {case}: steps per second / {SINGLE}"
            promises.append(at_least(what, TARGET, found and found[case]["ratio"]))
    decided = [] if size == Size.SMOKE else promises
    if not results:
        return Conclusion("Nothing has been measured yet.", decided, notes=NOTES)
    rows = []
    for name, found in results.items():
        for case, one in found.items():
            cells = [decimals(value, 3) for value in (one["ratio"], min(one["ratios"]), max(one["ratios"]))]
            rows.append([name, case, decimals(one["steps_per_second"], 1), *cells])
    worst = min(found[case]["ratio"] for found in results.values() for case in (ALONE, DEAD))
    return Conclusion(
        f"A node with nobody to exchange with does at least {worst:.2f} of the steps of one that never exchanges.",
        decided,
        [FoundTable("Steps per second", ["model", "node", "steps/s", f"of {SINGLE}", "from", "to"], rows, names=2)],
        [_chart(results)],
        NOTES,
    )


def _chart(results: Results) -> BarChart:
    return BarChart(
        "ratios",
        f"Speed of a node without peers, of `strategy: {SINGLE}`",
        "Median over the rounds, each against the single node in the same round.",
        "ratio of steps per second",
        list(results),
        [Bars(case, [found[case]["ratio"] for found in results.values()]) for case in (ALONE, DEAD)],
        level=TARGET,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=82)
