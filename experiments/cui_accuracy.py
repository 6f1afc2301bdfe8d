"""Without a server the nodes' common model is as accurate as with one, and nearly as one machine's.

Claim: on CIFAR-10, with VGG-19 and four nodes, the consensus of gossip is on test data at least as accurate as the
model of an asynchronous parameter server, and within 1 point of one machine's that has seen as many samples in all.
Before the consensus the nodes lie within 1 point of each other.

Source: Cui, "Decentralized Deep Learning with Gradient Compression", Tables II and III, Figures 8 to 10. The paper has
the four nodes' own models and no consensus.

The optimizer is SGD with momentum 0.9, and the mean threshold masks gossip's gradients, as in the paper. Each of four
nodes or workers does a quarter of the iterations on its quarter of the data; one machine does all of them on all data.
The learning rate falls along a cosine after a warm-up, for all alike; each system has that rate, of those tried, with
which it ended best.
The final loss is that of the last training batches, about twenty. The training accuracy is measured at the end, on some
thousands of those samples that the node itself has trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.harness.cluster import Cluster, cluster_case
from experiments.harness.experiment import Case, Conclusion, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, LineChart, Series
from p2pdl.report.words import decimals
from p2pdl.types import JsonObject

WORKERS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 4}
ITERATIONS = {Size.SMOKE: 80, Size.SMALL: 12_000, Size.PAPER: 40_000}
"""Of all workers together."""

MODEL = {Size.SMOKE: ("mlp", 0.1), Size.SMALL: ("vgg19", 0.25), Size.PAPER: ("vgg19", 1.0)}
DATA = {Size.SMOKE: "digits", Size.SMALL: "cifar10", Size.PAPER: "cifar10"}
BATCH = 32
LEARNING_RATES = {"gossip": 0.06, "asp": 0.01, "single": 0.01}
"""After the 12,000 iterations of the small size gossip had 0.774 with 0.03, 0.780 with 0.045 and 0.781 with 0.06, the
server 0.750 with 0.01, one machine 0.793 with 0.01 and 0.789 with 0.02. With 0.05 a server's `mlp` does not
learn the digits."""

WARM_UP = 0.1

EVALUATION_SAMPLES = {Size.SMOKE: 300, Size.SMALL: 5000, Size.PAPER: 10_000}
LINE_SECONDS = {Size.SMOKE: 1.0, Size.SMALL: 5.0, Size.PAPER: 60.0}
"""A point of the curves is the mean of so many."""

MINUTES = {
    Size.SMOKE: {"gossip": 0.2, "asp": 0.2, "single": 0.1},
    Size.SMALL: {"gossip": 6.5, "asp": 6.5, "single": 4.5},
    Size.PAPER: {"gossip": 480.0, "asp": 480.0, "single": 450.0},
}

CASES = {
    "gossip": "gossip",
    "asp": "an asynchronous server (asp)",
    "single": "one machine with all samples",
}
CHOSEN = {Size.SMOKE: ["gossip"], Size.SMALL: list(CASES), Size.PAPER: list(CASES)}
POINTS = " points"


@dataclass(frozen=True)
class Model:
    """What a model is worth.

    Attributes:
        loss: Of the last training batches.
        train: Accuracy on training data, 0 to 1.
        test: Accuracy on test data, 0 to 1.
    """

    loss: float | None
    train: float | None
    test: float | None


CONSENSUS, SERVER, ALONE = "gossip, consensus", "parameter server", "single machine"
PUBLISHED = {
    "gossip, node1": Model(0.3670, 0.867, 0.799),
    "gossip, node2": Model(0.2103, 0.922, 0.796),
    "gossip, node3": Model(0.1774, 0.953, 0.798),
    "gossip, node4": Model(0.1688, 0.945, 0.798),
    CONSENSUS: Model(None, None, None),
    SERVER: Model(0.4877, 0.967, 0.795),
    ALONE: Model(0.4192, 0.965, 0.838),
}
"""Figures 8 to 10, Tables II and III."""

NOTES = [
    "With the server each worker has moving averages of its own for BatchNorm: the figures are means over the workers. "
    "A consensus trains no further, so it has no loss of training batches.",
    "All nodes share this machine's cores, so how far a worker's weights lag behind differs from the paper's machines.",
]


def cases(size: Size) -> Sequence[Case]:
    return [_case(size, name) for name in CHOSEN[size]]


def _case(size: Size, name: str) -> Case:
    model, width = MODEL[size]
    nodes = 1 if name == "single" else WORKERS[size]
    strategies: dict[str, JsonObject] = {
        "gossip": {"strategy": "gossip", "gossip": {"start_wait": 600, "linger": 3600}},
        "asp": {"strategy": "parameter-server", "server": {"policy": "asp"}},
        "single": {"strategy": "single", "compress": {"mask": "none"}},
    }
    sections: JsonObject = {
        **strategies[name],
        "model": {"name": model, "width": width},
        "train": {
            "steps": ITERATIONS[size] // nodes,
            "batch_size": BATCH,
            "optimizer": {
                "name": "sgd",
                "learning_rate": LEARNING_RATES[name],
                "schedule": "cosine",
                "warm_up": WARM_UP,
                "arguments": {"momentum": 0.9},
            },
        },
        "metrics": {"evaluation_samples": EVALUATION_SAMPLES[size], "interval": LINE_SECONDS[size]},
    }
    cluster = Cluster(sections, DATA[size], nodes=nodes, servers=1 if name == "asp" else 0)
    return cluster_case(name, CASES[name], cluster, MINUTES[size][name])


def models(results: Results) -> dict[str, Model]:
    """What the models of the cases that are done are worth, by their names in `PUBLISHED`."""
    found = {}
    if "gossip" in results:
        summaries = _summaries(results["gossip"])
        for name, summary in summaries.items():
            before = summary["before_final_merge"]
            found[f"gossip, {name}"] = Model(
                summary["smoothed_loss"], before["train_accuracy"], before["test_accuracy"]
            )
        found[CONSENSUS] = Model(None, _mean(summaries, "train_accuracy"), results["gossip"]["accuracy"])
    for name, title in (("asp", SERVER), ("single", ALONE)):
        if name in results:
            summaries = _summaries(results[name])
            figures = (_mean(summaries, figure) for figure in ("smoothed_loss", "train_accuracy", "test_accuracy"))
            found[title] = Model(*figures)
    return found


def _summaries(found: Figures) -> dict[str, JsonObject]:
    """Of those that train."""
    return {name: node["summary"] for name, node in found["nodes"].items() if node["curve"]}


def _mean(summaries: dict[str, JsonObject], figure: str) -> float | None:
    values = [summary[figure] for summary in summaries.values() if summary[figure] is not None]
    return float(np.mean(values)) if values else None


def conclude(size: Size, results: Results) -> Conclusion:
    found = models(results)
    own = [model.test for name, model in found.items() if name.startswith("gossip, node") and model.test is not None]
    over = _points(found, CONSENSUS, SERVER)
    behind = _points(found, ALONE, CONSENSUS)
    spread = 100 * (max(own) - min(own)) if own else None
    promises = [
        at_least("test accuracy, consensus - parameter server", 0.0, over, POINTS),
        at_most("test accuracy, single machine - consensus", 1.0, behind, POINTS),
        at_most("test accuracy, the best node - the worst before the consensus", 1.0, spread, POINTS),
    ]
    decided = [] if size == Size.SMOKE else promises
    charts: list[Chart] = [_bars(found), *_curves(results)] if found else []
    notes = (
        NOTES if size == Size.PAPER else [*NOTES, f"{ITERATIONS[size]:,} iterations are far from the end of training."]
    )
    return Conclusion(_sentence(found, own), decided, [_table(found)], charts, notes)


def _points(found: dict[str, Model], above: str, below: str) -> float | None:
    """How many points of test accuracy a model has more than another."""
    pair = [found[name].test if name in found else None for name in (above, below)]
    return None if pair[0] is None or pair[1] is None else 100 * (pair[0] - pair[1])


def _sentence(found: dict[str, Model], own: list[float]) -> str:
    parts = []
    if CONSENSUS in found:
        nodes = f"{_percent(min(own))} to {_percent(max(own))}"
        parts.append(f"the consensus of gossip has {_percent(found[CONSENSUS].test)} on test data (its nodes {nodes})")
    if SERVER in found:
        parts.append(f"the parameter server {_percent(found[SERVER].test)}")
    if ALONE in found:
        parts.append(f"one machine with as many samples in all {_percent(found[ALONE].test)}")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else "Nothing can be compared yet."


def _table(found: dict[str, Model]) -> FoundTable:
    heads = ["model"]
    for figure in ("final loss", "training accuracy, %", "test accuracy, %"):
        heads += [figure, f"{figure} (published)"]
    rows = []
    for name in dict.fromkeys((*PUBLISHED, *found)):
        ours, theirs = found.get(name, Model(None, None, None)), PUBLISHED.get(name, Model(None, None, None))
        row = [name, decimals(ours.loss, 4), decimals(theirs.loss, 4)]
        for figure in ("train", "test"):
            row += [_percent(getattr(ours, figure), ""), _percent(getattr(theirs, figure), "")]
        rows.append(row)
    return FoundTable("Tables II and III", heads, rows)


def _percent(share: float | None, unit: str = " %") -> str:
    return decimals(share, 1) if share is None else f"{100 * share:.1f}{unit}"


def _bars(found: dict[str, Model]) -> BarChart:
    groups = list(PUBLISHED)
    tests = [[models[name].test if name in models else None for name in groups] for models in (found, PUBLISHED)]
    ours, theirs = ([None if test is None else 100 * test for test in row] for row in tests)
    bars = [Bars("ours", ours), Bars("Cui", theirs, published=True)]
    caption = "On all test samples. The paper has a model of each node, and no consensus."
    return BarChart("cui-test", "Test accuracy, Table III", caption, "test accuracy, %", groups, bars)


def _curves(results: Results) -> list[LineChart]:
    """Figures 8 to 10 in one picture."""
    series = []
    for name, found in results.items():
        curves = {node: figures["curve"] for node, figures in found["nodes"].items() if figures["curve"]}
        if name == "gossip":
            series += [_series(f"gossip, {node}", [curve], len(curves)) for node, curve in curves.items()]
        elif name in CASES:
            series.append(_series(SERVER if name == "asp" else ALONE, list(curves.values()), len(curves)))
    caption = "Mean loss of the training batches between two lines of metrics.jsonl; with a server, the workers' mean."
    title = "Training loss over iterations, Figures 8 to 10"
    return [
        LineChart("cui-loss", title, caption, "iterations of all workers together", "training loss", series, log_y=True)
    ]


def _series(name: str, curves: list[Any], workers: int) -> Series:
    """The mean of curves at the steps of the first."""
    steps = np.array(curves[0]["step"], dtype=np.float64)
    losses = []
    for curve in curves:
        loss = np.array(curve["train_loss"], dtype=np.float64)
        known = ~np.isnan(loss)
        losses.append(np.interp(steps, np.array(curve["step"], dtype=np.float64)[known], loss[known]))
    mean = np.mean(losses, axis=0)
    return Series(name, [float(step) * workers for step in steps], [round(float(value), 5) for value in mean])


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=40)
