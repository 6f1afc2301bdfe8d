"""The sliding window of valid iterations costs a push the same however many workers there are.

Claim: from 1 to 1000 workers a push, with the question whether the worker may go on, takes the window at most 1.3 times
as long as where it takes least, and its memory does not grow.

Source: Tsai, "Large scale deep learning parameter server" (2017): O(1) for a push, O(1) for the lower bound, and space
O(length), independent of the number of workers.

The window alone, in this process, without messages and weights: lengths 1 (bulk-synchronous) and 4 (stale-synchronous,
three iterations). The workers push in a random order, each as soon as it is admitted. To compare, the same pushes with
a list of all clocks and its minimum. Times are the processor's for 2000 pushes at a time, the least of all those of
some rounds in which all take turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from experiments.harness.experiment import Case, Conclusion, Desk, Figures, Results, Size, experiment
from experiments.harness.promises import at_most, ratio
from p2pdl.report.findings import FoundTable, LineChart, Promise, Series
from p2pdl.report.words import count, decimals, nbytes
from p2pdl.synchronisation import SlidingWindow

WORKERS = {
    Size.SMOKE: [1, 10, 100],
    Size.SMALL: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
    Size.PAPER: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000],
}
PUSHES = {Size.SMOKE: 2000, Size.SMALL: 20_000, Size.PAPER: 50_000}
"""Of all workers together."""

PIECE = 2000
"""Pushes that are timed together: so few that now and then nothing else disturbs them."""

ROUNDS = {Size.SMOKE: 3, Size.SMALL: 15, Size.PAPER: 30}
MINUTES = {Size.SMOKE: 0.05, Size.SMALL: 0.5, Size.PAPER: 15.0}
LENGTHS = {"window-1": 1, "window-4": 4, "minimum": 4}
TITLES = {
    "window-1": "window of 1 iteration",
    "window-4": "window of 4 iterations",
    "minimum": "minimum of all clocks, to compare",
}
MOST = 1000
"""Workers for which the claim is made."""

CASE = "workers"
NOTES = ["A push by message costs the server far more than that: it has to read and to apply the update besides."]


class Subject(Protocol):
    """What is timed."""

    def join(self) -> int: ...
    def push(self, clock: int) -> None: ...
    def admits(self, clock: int) -> bool: ...


class Minimum:
    """The plain way: the clocks of all workers, whose minimum is looked for at every push.

    Args:
        length: Valid iterations.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._clocks: list[int] = []
        self._low = 0

    def join(self) -> int:
        self._clocks.append(self._low)
        return self._low

    def push(self, clock: int) -> None:
        self._clocks[self._clocks.index(clock)] = clock + 1
        self._low = min(self._clocks)

    def admits(self, clock: int) -> bool:
        return self._low <= clock < self._low + self._length


def cases(size: Size) -> Sequence[Case]:
    settings = {"workers": WORKERS[size], "pushes": PUSHES[size], "rounds": ROUNDS[size], "lengths": LENGTHS}
    return [Case(CASE, "1 to many workers", settings, lambda desk: measure(desk, size), MINUTES[size])]


def measure(desk: Desk, size: Size) -> Figures:
    """Microseconds of a push and bytes, by subject, as many as there are numbers of workers."""
    subjects: dict[str, Callable[[], Subject]] = {
        "window-1": lambda: SlidingWindow(1),
        "window-4": lambda: SlidingWindow(4),
        "minimum": lambda: Minimum(4),
    }
    workers = WORKERS[size]
    orders = {(length, n): order(n, length, PUSHES[size]) for length in set(LENGTHS.values()) for n in workers}
    least = {name: [float("inf")] * len(workers) for name in subjects}
    memory = {name: [0] * len(workers) for name in subjects}
    for number in range(ROUNDS[size]):
        desk.say(number / ROUNDS[size], f"round {number + 1}")
        for place, n in enumerate(workers):
            for name, make in subjects.items():
                subject = make()
                seconds = timed(subject, n, orders[LENGTHS[name], n])
                least[name][place] = min(least[name][place], seconds)
                memory[name][place] = held(subject)
    return {
        "workers": workers,
        "microseconds": {name: [round(1e6 * value, 4) for value in values] for name, values in least.items()},
        "bytes": memory,
    }


def order(workers: int, length: int, pushes: int) -> list[int]:
    """The iterations that are pushed one after another, where any admitted worker may be the next.

    Args:
        workers: How many, all at iteration 0.
        length: Of the window.
        pushes: How many there are.
    """
    random = np.random.default_rng([workers, length])
    chances = random.random(pushes).tolist()
    at = {0: workers}
    found = []
    low = 0
    for chance in chances:
        # Workers at one clock are alike: a clock is drawn by how many are at it.
        left = chance * sum(at.get(clock, 0) for clock in range(low, low + length))
        clock = low
        while left >= at.get(clock, 0):
            left -= at.get(clock, 0)
            clock += 1
        found.append(clock)
        at[clock] -= 1
        at[clock + 1] = at.get(clock + 1, 0) + 1
        while not at.get(low):
            at.pop(low, None)
            low += 1
    return found


def timed(subject: Subject, workers: int, clocks: Sequence[int]) -> float:
    """Seconds of the processor for a push and the question whether the next may begin: the least mean of a piece."""
    for _ in range(workers):
        subject.join()
    push, admits = subject.push, subject.admits
    least = float("inf")
    for first in range(0, len(clocks), PIECE):
        piece = clocks[first : first + PIECE]
        started = time.process_time()
        for clock in piece:
            push(clock)
            admits(clock + 1)
        least = min(least, (time.process_time() - started) / len(piece))
    return least


def held(subject: Subject) -> int:
    """Bytes of an object with its fields."""
    return sys.getsizeof(subject) + sum(sys.getsizeof(value) for value in vars(subject).values())


def conclude(size: Size, results: Results) -> Conclusion:
    found = results.get(CASE)
    if found is None:
        return Conclusion("Nothing is measured yet.", [] if size == Size.SMOKE else promises({}, {}), notes=NOTES)
    claimed = [place for place, n in enumerate(found["workers"]) if n <= MOST]
    spread, growth = {}, {}
    for name in ("window-1", "window-4"):
        times = [found["microseconds"][name][place] for place in claimed]
        memory = [found["bytes"][name][place] for place in claimed]
        spread[name], growth[name] = ratio(max(times), min(times)), ratio(max(memory), min(memory))
    times, plain = found["microseconds"]["window-4"], found["microseconds"]["minimum"]
    most = found["workers"][-1]
    sentence = (
        f"A push and its check take the window of 4 iterations {min(times):.2f} to {max(times):.2f} microseconds from "
        f"1 to {count(most)} workers; a minimum over all clocks takes {plain[-1]:.3g} with {count(most)}."
    )
    decided = [] if size == Size.SMOKE else promises(spread, growth)
    return Conclusion(sentence, decided, [_table(found)], [_chart(found)], NOTES)


def promises(spread: dict[str, float | None], growth: dict[str, float | None]) -> list[Promise]:
    decided = []
    for name in ("window-1", "window-4"):
        decided.append(at_most(f"{TITLES[name]}: slowest / quickest push, 1 to {MOST} workers", 1.3, spread.get(name)))
        decided.append(at_most(f"{TITLES[name]}: most / least memory, 1 to {MOST} workers", 1, growth.get(name)))
    return decided


def _table(found: Figures) -> FoundTable:
    heads = ["workers"]
    for name in TITLES:
        heads += [f"{TITLES[name]}: us", "memory"]
    rows = []
    for place, workers in enumerate(found["workers"]):
        row = [count(workers)]
        for name in TITLES:
            row += [decimals(found["microseconds"][name][place], 3), nbytes(found["bytes"][name][place])]
        rows.append(row)
    return FoundTable("A push and the question whether the worker may go on", heads, rows, names=0)


def _chart(found: Figures) -> LineChart:
    series = [Series(TITLES[name], found["workers"], found["microseconds"][name]) for name in TITLES]
    return LineChart(
        "push",
        "Time of a push",
        "The window counts how many workers are at each of its iterations, so it has nothing to do for each worker.",
        "workers",
        "microseconds a push",
        series,
        log_x=True,
        log_y=True,
        points=True,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=77)
