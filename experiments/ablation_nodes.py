"""More nodes with less data each, and nodes with skewed data, still end as one machine that has all data.

Claim: the consensus of 2, 4 and 8 nodes, each with an equal random part of MNIST, ends within 1 point of one machine
that takes as many samples in all. With skewed parts (Dirichlet, alpha 0.3) it ends within 3 points, where a node that
never exchanges is, in the median of four, at least 5 points behind.

Source: Cui, "Decentralized Deep Learning with Gradient Compression", Tables II and III: four workers against one; the
paper varies neither their number nor their data.

All have the `mlp`, and take as many samples in all: with twice the nodes each takes half the steps. They train in
lock-step in one process, so that a run can be repeated bit for bit; eight processes do not fit on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.harness.experiment import Case, Conclusion, Figures, Results, Size, experiment
from experiments.harness.lockstep_run import ALONE, LockstepRun, lockstep_case
from experiments.harness.promises import at_least, at_most
from experiments.harness.variants import Variants, accuracy, case_name, error, from_to, signed
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, LineChart, Promise, Series
from p2pdl.report.words import decimals, megabytes
from p2pdl.types import JsonObject

NODES = {Size.SMOKE: [2], Size.SMALL: [2, 4, 8], Size.PAPER: [2, 4, 8, 16]}
PARTS = {"iid": "equal random parts", "dirichlet": "skewed parts"}
SEEDS = {Size.SMOKE: [0], Size.SMALL: [0], Size.PAPER: [0, 1, 2]}
BATCH = 64
STEPS = {Size.SMOKE: 80, Size.SMALL: 2808, Size.PAPER: 18_720}
"""Of all nodes together: 3 or 20 passes over MNIST."""

MINUTES = {
    "gossip": {Size.SMOKE: 0.05, Size.SMALL: 1.0, Size.PAPER: 10.0},
    ALONE: {Size.SMOKE: 0.03, Size.SMALL: 0.5, Size.PAPER: 4.0},
}
LOOKS = 6
"""Evaluations of a run."""

ALPHA = 0.3
ONE = "one-machine"
LOST = {"iid": 1.0, "dirichlet": 3.0}
"""Points that the consensus may be behind one machine."""

BEHIND = 5.0
COMPARED = 4
"""Nodes for which those that exchange are compared with those that do not."""

NOTES = [
    "One seed moves an accuracy by about 0.3 points.",
    "With skewed parts all nodes take equally many steps, so a node with few samples sees each of them more often.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for seed in SEEDS[size]:
        found.append(_case(size, ONE, 1, "iid", ALONE, seed))
        for parts in PARTS:
            for nodes in NODES[size]:
                for strategy in ("gossip", ALONE):
                    found.append(_case(size, _name(nodes, parts, strategy), nodes, parts, strategy, seed))
    return found


def _name(nodes: int, parts: str, strategy: str) -> str:
    return f"{nodes}-{parts}-{'together' if strategy == 'gossip' else 'apart'}"


def _case(size: Size, name: str, nodes: int, parts: str, strategy: str, seed: int) -> Case:
    steps = STEPS[size] // nodes
    sections: JsonObject = {
        "data": {"partition": parts} | ({"alpha": ALPHA} if parts == "dirichlet" else {}),
        "train": {"steps": steps, "batch_size": BATCH, "seed": seed},
        "strategy": strategy,
    }
    look_every = -(-steps // LOOKS)
    if size == Size.SMOKE:
        sections |= {"model": {"name": "mlp", "width": 0.125}}
        sections["train"] |= {"batch_size": 16}
        run = LockstepRun(sections, "digits", nodes, look_every, samples=300)
    else:
        run = LockstepRun(sections, "mnist", nodes, look_every)
    how = "together" if strategy == "gossip" else "never exchanging"
    title = "one machine" if name == ONE else f"{nodes} nodes, {PARTS[parts]}, {how}"
    return lockstep_case(case_name(name, seed), f"{title}, seed {seed}", run, MINUTES[strategy][size])


def conclude(size: Size, results: Results) -> Conclusion:
    variants = Variants(results, SEEDS[size])
    tables: list[FoundTable] = []
    charts: list[Chart] = []
    if results:
        tables = [_table(size, variants)]
        charts = [_lines(size, variants), _bars(size, variants)]
    decided = [] if size == Size.SMOKE else _promises(size, variants)
    return Conclusion(_sentence(size, variants), decided, tables, charts, NOTES)


def _promises(size: Size, variants: Variants) -> list[Promise]:
    made = [at_least("accuracy of one machine", 0.96, variants.mean(ONE))]
    for parts, most in LOST.items():
        for nodes in NODES[size]:
            gained = variants.points(_name(nodes, parts, "gossip"), ONE)
            what = f"points that {nodes} nodes with {PARTS[parts]} are behind one machine"
            made.append(at_most(what, most, None if gained is None else -gained))
    gained = variants.points(_name(COMPARED, "dirichlet", "gossip"), _name(COMPARED, "dirichlet", ALONE))
    made.append(at_least(f"points that exchanging brings {COMPARED} nodes with skewed parts", BEHIND, gained))
    return made


def _sentence(size: Size, variants: Variants) -> str:
    most = NODES[size][-1]
    said = []
    for parts, title in PARTS.items():
        gained = variants.points(_name(most, parts, "gossip"), ONE)
        if gained is not None:
            said.append(f"{gained:+.2f} with {title}")
    if not said:
        return "Nothing can be compared yet."
    return f"Points of the consensus of {most} nodes above one machine's {variants.mean(ONE):.4f}: {', '.join(said)}."


def _table(size: Size, variants: Variants) -> FoundTable:
    rows = []
    names = [(ONE, "one machine", 1, "all")]
    for parts in PARTS:
        for nodes in NODES[size]:
            for strategy, how in (("gossip", "together"), (ALONE, "never exchanging")):
                names.append((_name(nodes, parts, strategy), how, nodes, PARTS[parts]))
    for name, how, nodes, parts in names:
        found = variants.done(name)
        if not found:
            continue
        own = [value for one in found for value in one["nodes"]]
        together = how == "together"
        rows.append(
            [
                how,
                parts,
                str(nodes),
                str(found[0]["steps"]),
                decimals(variants.mean(name), 4) if together else "-",
                signed(variants.points(name, ONE)),
                from_to(own),
                megabytes(variants.mean(name, lambda one: float(one["nbytes"]))) if together else "-",
            ]
        )
    heads = ["", "data", "nodes", "steps of each", "consensus", "points", "nodes themselves", "MB a node receives"]
    return FoundTable("Test accuracy after as many samples in all", heads, rows, names=2)


def _lines(size: Size, variants: Variants) -> LineChart:
    series = []
    for parts, title in PARTS.items():
        for strategy, how in (("gossip", "together"), (ALONE, "never exchanging")):
            values = [variants.mean(_name(nodes, parts, strategy)) for nodes in NODES[size]]
            series.append(Series(f"{how}, {title}", [1.0, *NODES[size]], [variants.mean(ONE), *values]))
    return LineChart(
        "nodes",
        "Accuracy by the number of nodes",
        "Together: the consensus. Never exchanging: the median node.",
        "nodes, among which as many samples are divided",
        "test accuracy",
        series,
        log_x=True,
        points=True,
    )


def _bars(size: Size, variants: Variants) -> BarChart:
    groups = [f"{nodes} nodes, {title}" for title in PARTS.values() for nodes in NODES[size]]
    names = [(nodes, parts) for parts in PARTS for nodes in NODES[size]]

    def values(strategy: str, what: str) -> list[float | None]:
        read = accuracy if what == "consensus" else _worst
        return [error(variants.mean(_name(nodes, parts, strategy), read)) for nodes, parts in names]

    return BarChart(
        "worst",
        "The consensus, and the worst node",
        "What the worst-placed node has, with and without the others; the line is one machine. Less is better.",
        "test error, %",
        groups,
        [
            Bars("consensus", values("gossip", "consensus")),
            Bars("worst node before the final merge", values("gossip", "worst")),
            Bars("worst node that never exchanges", values(ALONE, "worst")),
        ],
        log=True,
        level=error(variants.mean(ONE)),
    )


def _worst(found: Figures) -> float:
    return float(np.min(found["nodes"]))


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=63)
