"""From whom a node pulls and how it merges hardly moves gossip's accuracy; that it does not wait makes it quick.

Claim: on MNIST the consensus of four nodes ends within 0.5 points whether they pull on a ring, at random or by powers
of two; whether they merge by halves, by claimed or by measured losses; and whether the pull overlaps with the
computation or each step waits for it. On links of 300 Mbit/s a step that waits takes at least twice as long as one that
does not.

Source: Cui, "Decentralized Deep Learning with Gradient Compression", which leaves ring or random open, merges by the
contribution of the loss, and waits for each pull; the paper has no such ablation.

Each of four nodes has a quarter of MNIST and the `mlp`; all are real processes, since times and waiting are real only
there. The base case is p2pdl's default: random neighbours, claimed losses, overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.harness.cluster import Cluster, cluster_case
from experiments.harness.experiment import Case, Conclusion, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most, ratio
from experiments.harness.variants import Variants, case_name, error, from_to, signed
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, Promise
from p2pdl.report.words import decimals, megabytes, milliseconds
from p2pdl.types import JsonObject

RATE = 300.0
"""Mbit/s of all links, where they are limited."""


@dataclass(frozen=True)
class Variant:
    """One setting that differs from the base.

    Attributes:
        title: For people.
        gossip: Its settings in `gossip`.
        rate: Mbit/s of all links; None for this machine's own loopback.
    """

    title: str
    gossip: JsonObject = field(default_factory=dict)
    rate: float | None = None


BASE = "base"
VARIANTS = {
    BASE: Variant("base: random, claimed, overlap"),
    "ring": Variant("ring", {"topology": "ring"}),
    "exponential": Variant("exponential", {"topology": "exponential"}),
    "mean": Variant("merge by halves", {"merge": "mean"}),
    "measured": Variant("measured losses", {"contribution": "measured"}),
    "waiting": Variant("no overlap", {"overlap": False}),
    "base-slow": Variant(f"base, {RATE:g} Mbit/s", rate=RATE),
    "waiting-slow": Variant(f"no overlap, {RATE:g} Mbit/s", {"overlap": False}, RATE),
}
GROUPS = {
    "topologies": [BASE, "ring", "exponential"],
    "merges": [BASE, "mean", "measured"],
    "with and without overlap": [BASE, "waiting"],
}
"""Of which the consensus should be about the same."""

CHOSEN = {Size.SMOKE: ["waiting"], Size.SMALL: list(VARIANTS), Size.PAPER: list(VARIANTS)}
SEEDS = {Size.SMOKE: [0], Size.SMALL: [0], Size.PAPER: [0, 1, 2]}
PASSES = {Size.SMALL: 3, Size.PAPER: 20}
MINUTES = {Size.SMOKE: 0.3, Size.SMALL: 0.8, Size.PAPER: 5.0}
SLOW_MINUTES = {"base-slow": 1.2, "waiting-slow": 2.5}
"""At the small size, where they take longer."""

APART = 0.5
"""Points between the best and the worst of a group."""

LONGER = 2.0
"""Times that a step with waiting takes of one without, on limited links."""

NOTES = [
    "One seed moves an accuracy by about 0.3 points; with overlap two runs of one seed differ by as much.",
    "All nodes share this machine's cores: on the loopback a pull takes processor time from the steps beside it, so "
    "that overlap gains little there.",
    f"On links of {RATE:g} Mbit/s a pull takes longer than a step: with overlap a node then exchanges every few steps, "
    "without it after every step.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for seed in SEEDS[size]:
        for name in CHOSEN[size]:
            variant = VARIANTS[name]
            links = None if variant.rate is None else {"all": variant.rate}
            sections = _sections(size, seed, variant)
            cluster = Cluster(sections, _data(size), nodes=2 if size == Size.SMOKE else 4, links=links)
            factor = SLOW_MINUTES.get(name, MINUTES[Size.SMALL]) / MINUTES[Size.SMALL]
            minutes = MINUTES[size] * (1.0 if size == Size.SMOKE else factor)
            found.append(cluster_case(case_name(name, seed), f"{variant.title}, seed {seed}", cluster, minutes))
    return found


def _data(size: Size) -> str:
    return "digits" if size == Size.SMOKE else "mnist"


def _sections(size: Size, seed: int, variant: Variant) -> JsonObject:
    train: JsonObject = {"seed": seed, "profile": True}
    sections: JsonObject = {"strategy": "gossip", "gossip": {"start_wait": 600, **variant.gossip}}
    if size == Size.SMOKE:
        train |= {"steps": 40, "batch_size": 16}
        return {**sections, "train": train, "model": {"name": "mlp", "width": 0.25}}
    return {**sections, "train": {**train, "passes": PASSES[size]}}


def conclude(size: Size, results: Results) -> Conclusion:
    variants = Variants(results, SEEDS[size])
    tables: list[FoundTable] = []
    charts: list[Chart] = []
    if results:
        tables = [_table(size, variants)]
        charts = [_errors(size, variants), _times(size, variants)]
    decided = [] if size == Size.SMOKE else _promises(variants)
    return Conclusion(_sentence(variants), decided, tables, charts, NOTES)


def _step(found: Figures) -> float | None:
    value: float | None = found["step"]["median"]
    return value


def _summed(found: Figures, figure: str) -> float:
    """A figure of the summaries, the nodes' mean."""
    return float(np.mean([node["summary"][figure] for node in found["nodes"].values()]))


def _own(found: Figures) -> list[float]:
    """Each node's accuracy before the final merge."""
    summaries = [node["summary"] for node in found["nodes"].values()]
    return [(summary["before_final_merge"] or summary)["test_accuracy"] for summary in summaries]


def _slower(variants: Variants, waiting: str, base: str) -> float | None:
    return ratio(variants.mean(waiting, _step), variants.mean(base, _step))


def _promises(variants: Variants) -> list[Promise]:
    made = [at_least("accuracy of the base case", 0.968, variants.mean(BASE))]
    made += [at_most(f"points between {name}", APART, variants.spread(group)) for name, group in GROUPS.items()]
    slower = _slower(variants, "waiting-slow", "base-slow")
    made.append(at_least(f"step without overlap / with it, links of {RATE:g} Mbit/s", LONGER, slower))
    return made


def _sentence(variants: Variants) -> str:
    parts = []
    if (base := variants.mean(BASE)) is not None:
        parts.append(f"the base case ends at {base:.4f}")
    apart = [points for group in GROUPS.values() if (points := variants.spread(group)) is not None]
    if apart:
        parts.append(f"no setting moves that by more than {max(apart):.2f} points")
    for where, waiting, on in ((f"{RATE:g} Mbit/s", "waiting-slow", "base-slow"), ("the loopback", "waiting", BASE)):
        if (slower := _slower(variants, waiting, on)) is not None:
            parts.append(f"without overlap a step takes {slower:.2f} times as long at {where}")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if parts else "Nothing can be compared yet."


def _table(size: Size, variants: Variants) -> FoundTable:
    rows = []
    for name in CHOSEN[size]:
        found = variants.done(name)
        if found:
            rows.append(
                [
                    VARIANTS[name].title,
                    decimals(variants.mean(name), 4),
                    signed(variants.points(name, BASE)),
                    from_to([accuracy for one in found for accuracy in _own(one)]),
                    milliseconds(variants.mean(name, _step)),
                    decimals(variants.mean(name, lambda one: _summed(one, "wait_seconds")), 1),
                    decimals(variants.mean(name, lambda one: _summed(one, "merges")), 0),
                    megabytes(variants.mean(name, lambda one: _summed(one, "bytes_received"))),
                ]
            )
    heads = ["", "consensus", "points", "nodes before the final merge", "ms a step", "s waited", "merges", "MB"]
    return FoundTable("One setting at a time; waiting, merges and bytes are of a node", heads, rows)


def _errors(size: Size, variants: Variants) -> BarChart:
    names = CHOSEN[size]
    own = [variants.mean(name, lambda one: float(np.mean(_own(one)))) for name in names]
    return BarChart(
        "error",
        "Test error, one setting at a time",
        "Four nodes with a quarter of the data each, after the same number of steps. Less is better.",
        "test error, %",
        [VARIANTS[name].title for name in names],
        [
            Bars("consensus", [error(variants.mean(name)) for name in names]),
            Bars("mean of the nodes", [error(accuracy) for accuracy in own]),
        ],
    )


def _times(size: Size, variants: Variants) -> BarChart:
    names = CHOSEN[size]
    times = [variants.mean(name, _step) for name in names]
    return BarChart(
        "time",
        "Time of a step, one setting at a time",
        "Median of all steps while all nodes train, exchange included.",
        "ms a step",
        [VARIANTS[name].title for name in names],
        [Bars("median", [None if time is None else 1e3 * time for time in times])],
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=61)
