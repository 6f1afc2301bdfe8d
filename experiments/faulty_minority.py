"""Two faulty nodes of five cost the three others no step, hardly any time and no accuracy.

Claim: with two nodes that fall silent, are slow, are cut off in mid-transfer, are damaged on the way, are full of NaN,
are a thousand times too large, or lie about their loss, the three others do all their steps; their median step takes at
most 1.1 times as long as without those two; and their models, before and after the final merge, are within 1 point.

Source: for the last two, He, Karimireddy, Jaggi, "Byzantine-Robust Decentralized Learning via ClippedGossip" (2022).

The faulty nodes have a server and take part in the membership, but do not train: they serve copies of an honest node's
weights, or what they make of them, so that they take no time from the processors that the others share. With each of
these runs goes, at the same time, one of three nodes without faulty ones, on the same three fifths of the data. Step
times are compared with those of the nodes that trained at the same time; accuracies, which do not depend on the
machine, with the mean over all runs without faulty nodes.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from experiments.faulty_cluster import HONEST, Fault, Row, Trio, train_side_by_side, write_data
from experiments.harness import data
from experiments.harness.experiment import Case, Conclusion, Desk, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most
from experiments.harness.variants import signed
from p2pdl.report.findings import BarChart, Bars, FoundTable, Promise
from p2pdl.report.words import decimals, milliseconds
from p2pdl.types import JsonObject
from tools.faults import Faults, Way

STEP_RATIO, POINTS = 1.1, 1.0
"""What a faulty minority may cost: of a step's time, and in hundredths of the accuracy."""

LINE_SECONDS = 0.2
"""Between two lines of a node's metrics, by which its steps are measured."""

SLOW = Faults(Way(bandwidth=1e4), Way(bandwidth=1e4))
CUT, CORRUPTING = Faults(from_target=Way(cut_after=100_000)), Faults(from_target=Way(corrupt_every=50_000))
CLAIMED = {
    "silent": Fault(falls_silent=True),
    "slow": Fault(faults=SLOW),
    "cut": Fault(faults=CUT),
    "corrupting": Fault(faults=CORRUPTING),
    "nan": Fault(lambda first, newest: np.full_like(newest, np.nan)),
    "scaled": Fault(lambda first, newest: 1000 * newest),
    "lying": Fault(loss=0.0),
}
BEYOND = {
    # Liars who are half of everybody's neighbours, and drag them back to the first steps.
    "stale": Fault(lambda first, newest: first, loss=0.0),
    "stale-measured": Fault(lambda first, newest: first, loss=0.0, gossip={"contribution": "measured"}),
}
FAULTS = CLAIMED | BEYOND
TITLES = {
    "silent": "silent",
    "slow": "slow",
    "cut": "cut off in mid-transfer",
    "corrupting": "damaged on the way",
    "nan": "full of NaN",
    "scaled": "1000 times too large",
    "lying": "lying about their loss",
    "stale": "old weights, lying",
    "stale-measured": "the same, losses measured",
}
CHOSEN = {Size.SMOKE: ["nan"], Size.SMALL: list(FAULTS), Size.PAPER: list(FAULTS)}
STEPS = {Size.SMOKE: 300, Size.SMALL: 6000, Size.PAPER: 20_000}
WIDTH = {Size.SMOKE: 0.1, Size.SMALL: 0.5, Size.PAPER: 1.0}
MINUTES = {Size.SMOKE: 0.5, Size.SMALL: 2.1, Size.PAPER: 30.0}
SEED = 0
NOTES = [
    "Nodes that serve old weights for ever are no fault that a single pull can tell from a slow node's: of the two "
    "last cases nothing is claimed.",
    "Who has fewer honest neighbours has fewer weights of others in its own: some of the points before the final merge "
    "are that.",
]


def cases(size: Size) -> Sequence[Case]:
    return [_case(size, name) for name in CHOSEN[size]]


def _case(size: Size, name: str) -> Case:
    source = "digits" if size == Size.SMOKE else "mnist"
    sections: JsonObject = {
        "model": {"name": "mlp", "width": WIDTH[size]},
        "train": {"steps": STEPS[size], "batch_size": 64, "threads": 1, "seed": SEED},
        "gossip": {"start_wait": 120},
        "metrics": {"interval": LINE_SECONDS},
    }
    return Case(
        name,
        f"two of five nodes are {TITLES[name]}",
        {"fault": name, "data": source, "sections": sections},
        lambda desk: _train(desk, FAULTS[name], sections, source),
        MINUTES[size],
        lambda: data.missing(source),
    )


def _train(desk: Desk, fault: Fault, sections: JsonObject, source: str) -> Figures:
    whole, parts = write_data(desk.folder, _images(source, desk.folder), SEED)
    folders = desk.folder / "with", desk.folder / "without"
    first, second = (sections | {"data": {"source": f"npz:{path}"}} for path in (whole, parts))
    row, alone = train_side_by_side(Trio(first, folders[0], fault), Trio(second, folders[1], None), desk.say)
    for folder in folders:
        shutil.rmtree(folder)
    for path in (whole, parts):
        path.unlink()
    return {"with": asdict(row), "without": asdict(alone)}


def _images(source: str, folder: Path) -> Mapping[str, np.ndarray]:
    # It takes a while, and lists of experiments do without.
    from p2pdl.training.data.registry import load

    dataset = load(data.source(source, folder), folder)
    return {name: getattr(dataset, name) for name in ("x_train", "y_train", "x_test", "y_test")}


@dataclass(frozen=True)
class Cost:
    """What faulty nodes have cost the honest ones; None where that is not known.

    Attributes:
        row: How those beside the faulty ones fared.
        alone: How those without any fared at the same time.
        step_ratio: Step time over that of the others.
        points_before: The lowest of the nodes' differences in accuracy before the final merge, in hundredths.
        points_after: The same after it.
    """

    row: Row
    alone: Row
    step_ratio: float | None
    points_before: float | None
    points_after: float | None


def costs(results: Results) -> dict[str, Cost]:
    """Of each case that is done."""
    rows = {name: (Row(**found["with"]), Row(**found["without"])) for name, found in results.items()}
    good = [alone for _, alone in rows.values() if _is_whole(alone)]
    before = [statistics.mean(each) for each in zip(*(sorted(row.accuracies) for row in good), strict=True)]
    found = {}
    for name, (row, alone) in rows.items():
        points_before = points_after = step_ratio = None
        if _is_whole(row) and good:
            points_before = 100 * float(np.min(np.sort(row.accuracies) - before))
            points_after = 100 * (min(row.consensus) - statistics.mean(min(one.consensus) for one in good))
        if _is_whole(row) and _is_whole(alone):
            step_ratio = statistics.mean(row.step_seconds) / statistics.mean(alone.step_seconds)
        found[name] = Cost(row, alone, step_ratio, points_before, points_after)
    return found


def _is_whole(row: Row) -> bool:
    """Whether all honest nodes have ended well, with steps that count."""
    return not row.ended and len(row.accuracies) == len(row.step_seconds) == len(HONEST)


def conclude(size: Size, results: Results) -> Conclusion:
    done = costs({name: results[name] for name in CHOSEN[size] if name in results})
    promises: list[Promise] = []
    for name in CLAIMED:
        cost = done.get(name)
        promises.append(at_least(f"{TITLES[name]}: steps", STEPS[size], cost and cost.row.steps))
        promises.append(at_most(f"{TITLES[name]}: step time / without", STEP_RATIO, cost and cost.step_ratio))
        for when, points in (("before", cost and cost.points_before), ("after", cost and cost.points_after)):
            promises.append(at_least(f"{TITLES[name]}: points {when} the final merge", -POINTS, points))
    decided = [] if size == Size.SMOKE else promises
    if not done:
        return Conclusion("Nothing has been run yet.", decided, notes=NOTES)
    points = [cost.points_after for name, cost in done.items() if name in CLAIMED and cost.points_after is not None]
    ratios = [cost.step_ratio for name, cost in done.items() if name in CLAIMED and cost.step_ratio is not None]
    sentence = "Two faulty nodes of five cost the others"
    if points and ratios:
        sentence += f" {max(0.0, -min(points)):.2f} points at most, and {max(ratios):.2f} of a step's time."
    else:
        sentence += " what is not known yet."
    tables = [_table(done), _failures(done)]
    return Conclusion(sentence, decided, tables, [_points(done), _times(done)], NOTES)


def _table(done: Mapping[str, Cost]) -> FoundTable:
    rows = []
    for name, cost in done.items():
        cells = [TITLES[name], str(cost.row.steps)]
        cells += [milliseconds(_step(cost.row)), milliseconds(_step(cost.alone)), decimals(cost.step_ratio, 2)]
        cells += [signed(cost.points_before), signed(cost.points_after)]
        rows.append([*cells, str(cost.row.merges), str(cost.alone.merges)])
    heads = ["the two nodes", "steps", "ms a step", "without them", "ratio"]
    heads += ["points before the final merge", "after it", "merges", "without them"]
    return FoundTable("Three nodes beside two faulty ones, and without them", heads, rows)


def _step(row: Row) -> float | None:
    return statistics.mean(row.step_seconds) if row.step_seconds else None


def _failures(done: Mapping[str, Cost]) -> FoundTable:
    rows = []
    for name, cost in done.items():
        failed = ", ".join(f"{code} {count}" for code, count in cost.row.failures.items())
        ended = ", ".join(f"{node}: {how}" for node, how in cost.row.ended.items())
        rows.append([TITLES[name], failed or "-", " ".join(cost.row.merged) or "-", ended or "all well"])
    return FoundTable(
        "What the honest nodes met with",
        ["the two nodes", "pulls that failed", "faulty ones in a final merge", "how the honest ones ended"],
        rows,
        names=4,
    )


def _points(done: Mapping[str, Cost]) -> BarChart:
    return BarChart(
        "points",
        "Accuracy beside two faulty nodes",
        "The worst-placed of three honest nodes, against the same without faulty ones.",
        "points of accuracy",
        [TITLES[name] for name in done],
        [
            Bars("before the final merge", [cost.points_before for cost in done.values()]),
            Bars("after it", [cost.points_after for cost in done.values()]),
        ],
    )


def _times(done: Mapping[str, Cost]) -> BarChart:
    return BarChart(
        "steps",
        "Step time beside two faulty nodes",
        "Mean of the three nodes' medians, over that of three nodes without faulty ones at the same time.",
        "ratio of step times",
        [TITLES[name] for name in done],
        [Bars("step time", [cost.step_ratio for cost in done.values()])],
        level=1.0,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=81)
