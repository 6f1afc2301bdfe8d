"""A straggler costs Tsai's parameter server time, but no accuracy, whatever rule weighs the updates.

Claim: with the window of four iterations, one of four workers 3 or 6 times slower costs none of the update rules
(CONSGD, DYNSGD, direction and distance) more than 1 point after as many samples, while all wait for that worker.
Without a window as many samples take at most 1.4 times as long, and CONSGD and DYNSGD lose no more than 1 point;
direction and distance, which gives most to who is behind, then loses at least 3.

Source: Tsai, "Large scale deep learning parameter server" (2017), which proposes direction and distance for stragglers,
and gives no figures but 98 % on MNIST with three dense layers of 512. DYNSGD: Jiang, Cui, Zhang, Yu,
"Heterogeneity-aware distributed parameter servers" (2017).

The workers take turns in one process and their speeds are simulated: gradients, policies and rules are real, nothing
travels, and a run can be repeated bit for bit. Each has a quarter of MNIST. The learning rate of each rule is the best
of three without a straggler: DYNSGD, which divides by how late an update is, wants three times that of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.harness.experiment import Case, Conclusion, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most, ratio
from experiments.harness.uneven_workers import UnevenRun, uneven_case
from experiments.harness.variants import error, signed
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, LineChart, Promise, Series
from p2pdl.report.words import count, decimals

RULES = {
    "consgd": ("CONSGD", 0.4),
    "dynsgd": ("DYNSGD", 1.2),
    "direction-distance": ("direction and distance", 0.4),
}
"""By name: what they are called, and their learning rates."""

POLICIES = {"ssp": "a window of 4", "asp": "no window"}
WORKERS = 4
SLOWER = {Size.SMOKE: [1, 6], Size.SMALL: [1, 3, 6], Size.PAPER: [1, 3, 6]}
"""How many times longer a step of the last worker takes."""

CHOSEN = {Size.SMOKE: ["ssp"], Size.SMALL: list(POLICIES), Size.PAPER: list(POLICIES)}
PUSHES = {Size.SMOKE: 60, Size.SMALL: 2800, Size.PAPER: 37_500}
"""Of all workers: 3 or 40 passes over MNIST."""

WIDTH = {Size.SMOKE: 0.125, Size.SMALL: 0.25, Size.PAPER: 1.0}
MINUTES = {Size.SMOKE: 0.02, Size.SMALL: 0.3, Size.PAPER: 15.0}
LOOKS = 15
LAST = 3
"""Looks at the end whose mean counts: without momentum one alone goes up and down."""

LOST = 1.0
MOST, LONGER, UNFIT = 6, 1.4, 3.0
PUBLISHED = 0.98
NOTES = [
    "One seed moves an accuracy by about 0.3 points. All workers have equal random parts of the data, so that nothing "
    "is lost when one of them counts for less.",
    "The unit of time is a step of a quick worker; transfers take none.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for policy in CHOSEN[size]:
        for slower in SLOWER[size]:
            for rule, (title, rate) in RULES.items():
                run = UnevenRun(
                    "digits" if size == Size.SMOKE else "mnist",
                    step_lengths=[1.0] * (WORKERS - 1) + [float(slower)],
                    rule=rule,
                    learning_rate=rate,
                    pushes=PUSHES[size],
                    look_every=-(-PUSHES[size] // LOOKS),
                    policy=policy,
                    width=WIDTH[size],
                    batch=16 if size == Size.SMOKE else 64,
                )
                full_title = f"{title}, {POLICIES[policy]}, {_speed(slower)}"
                found.append(uneven_case(_name(rule, policy, slower), full_title, run, MINUTES[size]))
    return found


def _name(rule: str, policy: str, slower: int) -> str:
    return f"{rule}-{policy}-{slower}"


def _speed(slower: int) -> str:
    return "equal speeds" if slower == 1 else f"one {slower} times slower"


def accuracy_of(found: Figures | None) -> float | None:
    """At the end: the mean of the last looks."""
    return None if found is None else float(np.mean(found["looks"]["accuracy"][-LAST:]))


class Runs:
    """What is known of each case.

    Args:
        results: Figures of the cases that are done.
    """

    def __init__(self, results: Results) -> None:
        self._results = results

    def found(self, rule: str, policy: str, slower: int) -> Figures | None:
        """Figures of a case; None if it is not done."""
        return self._results.get(_name(rule, policy, slower))

    def accuracy(self, rule: str, policy: str, slower: int) -> float | None:
        """At the end."""
        return accuracy_of(self.found(rule, policy, slower))

    def gained(self, rule: str, policy: str, slower: int) -> float | None:
        """Points above the same rule with workers of equal speed under the window."""
        here, equal = self.accuracy(rule, policy, slower), self.accuracy(rule, "ssp", 1)
        return None if here is None or equal is None else 100.0 * (here - equal)

    def longer(self, rule: str, policy: str, slower: int) -> float | None:
        """Times that as many samples take of the time with workers of equal speed, under the same policy."""
        here, equal = self.found(rule, policy, slower), self.found(rule, policy, 1)
        if here is None or equal is None:
            return None
        return ratio(here["time"], equal["time"])


def conclude(size: Size, results: Results) -> Conclusion:
    runs = Runs(results)
    tables: list[FoundTable] = []
    charts: list[Chart] = []
    if results:
        tables = [_table(size, runs)]
        charts = [_bars(size, runs), _curves(size, runs, "time"), _curves(size, runs, "samples")]
    decided = [] if size == Size.SMOKE else _promises(size, runs)
    return Conclusion(_sentence(size, runs), decided, tables, charts, NOTES)


def _promises(size: Size, runs: Runs) -> list[Promise]:
    made = []
    for rule, (title, _) in RULES.items():
        for slower in SLOWER[size][1:]:
            what = f"{title}, window: points lost with one {slower} times slower"
            made.append(at_most(what, LOST, _lost(runs, rule, "ssp", slower)))
    for rule in ("consgd", "dynsgd"):
        what = f"{RULES[rule][0]}, no window: points lost with one {MOST} times slower"
        made.append(at_most(what, LOST, _lost(runs, rule, "asp", MOST)))
    what = f"direction and distance, no window: points lost with one {MOST} times slower"
    made.append(at_least(what, UNFIT, _lost(runs, "direction-distance", "asp", MOST)))
    what = f"no window: time with one {MOST} times slower / without"
    made.append(at_most(what, LONGER, runs.longer("consgd", "asp", MOST)))
    return made


def _lost(runs: Runs, rule: str, policy: str, slower: int) -> float | None:
    gained = runs.gained(rule, policy, slower)
    return None if gained is None else -gained


def _sentence(size: Size, runs: Runs) -> str:
    slower = SLOWER[size][-1]
    said = []
    for policy, title in POLICIES.items():
        points = [
            f"{gained:+.2f} points by {rule_title}"
            for rule, (rule_title, _) in RULES.items()
            if (gained := runs.gained(rule, policy, slower)) is not None
        ]
        longer = runs.longer("consgd", policy, slower)
        if points and longer is not None:
            said.append(f"with {title}, {', '.join(points)}, in {longer:.3g} times the time")
    if not said:
        return "Nothing can be compared yet."
    return f"One of {WORKERS} workers {slower} times slower: {'; '.join(said)}."


def _table(size: Size, runs: Runs) -> FoundTable:
    rows = []
    for policy in CHOSEN[size]:
        for slower in SLOWER[size]:
            for rule, (title, _) in RULES.items():
                found = runs.found(rule, policy, slower)
                if found is None:
                    continue
                rows.append(
                    [
                        title,
                        POLICIES[policy],
                        _speed(slower),
                        decimals(runs.accuracy(rule, policy, slower), 4),
                        signed(runs.gained(rule, policy, slower)),
                        count(found["time"]),
                        decimals(float(np.mean(found["idle"][:-1])), 2),
                        decimals(found["staleness"], 2),
                    ]
                )
    rows.append(["Tsai (published)", "-", "-", f"{PUBLISHED:g}", "-", "-", "-", "-"])
    heads = ["rule", "policy", "workers", "accuracy", "points", "time", "quick workers idle", "versions late"]
    samples = count(PUSHES[size] * (16 if size == Size.SMOKE else 64))
    return FoundTable(f"After {samples} samples of all workers", heads, rows, names=3)


def _bars(size: Size, runs: Runs) -> BarChart:
    groups = [(policy, slower) for policy in CHOSEN[size] for slower in SLOWER[size]]
    return BarChart(
        "rules",
        "Test error by update rule, with and without a straggler",
        "The server's weights after as many samples of all workers, the mean of the last looks. Less is better.",
        "test error, %",
        [f"{POLICIES[policy]}, {_speed(slower)}" for policy, slower in groups],
        [
            Bars(title, [error(runs.accuracy(rule, policy, slower)) for policy, slower in groups])
            for rule, (title, _) in RULES.items()
        ],
    )


def _curves(size: Size, runs: Runs, over: str) -> LineChart:
    """With the slowest straggler, over time or over samples."""
    slower = SLOWER[size][-1]
    series = []
    for policy in CHOSEN[size]:
        for rule, (title, _) in RULES.items():
            found = runs.found(rule, policy, slower)
            if found is not None:
                looks = found["looks"]
                errors = [error(accuracy) for accuracy in looks["accuracy"]]
                series.append(Series(f"{title}, {POLICIES[policy]}", looks[over], errors))
    return LineChart(
        f"error-by-{over}",
        f"Test error over {over}, {_speed(slower)}",
        "The server's weights; all make the same number of pushes.",
        "steps of a quick worker" if over == "time" else "samples of all workers",
        "test error, %",
        series,
        log_x=over == "time",
        log_y=True,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=76)
