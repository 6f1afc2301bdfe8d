"""What a row of the benchmark is, how its two sides are measured beside each other, and what has been found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TRIAL_ELEMENTS = 300_000
"""Elements of every vector in a trial: two shards, the second one short."""

Pair = tuple[float, float]
"""What was measured, and the reference next to it, both in the row's unit."""

Details = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure.

    Attributes:
        repeats: Pairs of each row.
        trial: True to make everything as small as it can be: that tries the benchmark out and says nothing of p2pdl.
    """

    repeats: int
    trial: bool = False

    def elements(self, megabytes: float) -> int:
        """Elements of a float32 vector of so many millions of bytes."""
        return TRIAL_ELEMENTS if self.trial else round(250_000 * megabytes)

    def times(self, count: int) -> int:
        """How often to do something that is worth doing `count` times."""
        return min(2, count) if self.trial else count


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio should be: at least (`>=`) or at most (`<=`) a value."""

    relation: str
    value: float

    def is_met(self, ratio: float) -> bool:
        """Whether a ratio is as it should be."""
        return ratio >= self.value if self.relation == ">=" else ratio <= self.value

    def __str__(self) -> str:
        return f"{self.relation} {self.value:.2f}"


@dataclass(frozen=True, slots=True)
class Found:
    """What the measurement of a row has found.

    Attributes:
        pairs: The repeats.
        details: Further figures by name.
        note: The one of them that the table shows too, in words.
    """

    pairs: list[Pair]
    details: Details = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        name: Its name on the command line.
        what: What is measured.
        reference: What it is compared with.
        unit: Of both sides.
        measure: Measures both sides; called in a process of its own.
        target: What the ratio of what is measured to the reference should be, if anything was promised.
        quick: True if it takes seconds and not minutes.
    """

    name: str
    what: str
    reference: str
    unit: str
    measure: Callable[[Effort], Found]
    target: Target | None = None
    quick: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """A row and what was found.

    Attributes:
        row: The row.
        found: Its figures.
        load: The machine's load average over the last minute before.
    """

    row: Row
    found: Found
    load: float

    @property
    def measured(self) -> float:
        """Median of what was measured."""
        return statistics.median(measured for measured, _ in self.found.pairs)

    @property
    def reference(self) -> float:
        """Median of the reference."""
        return statistics.median(reference for _, reference in self.found.pairs)

    @property
    def ratios(self) -> list[float]:
        """What was measured over the reference, pair by pair."""
        return [measured / reference for measured, reference in self.found.pairs]

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios."""
        return statistics.median(self.ratios)

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines to read."""
        target = self.row.target
        return {
            "row": self.row.name,
            "what": self.row.what,
            "reference": self.row.reference,
            "unit": self.row.unit,
            "measured": self.measured,
            "reference_measured": self.reference,
            "ratio": self.ratio,
            "spread": [min(self.ratios), max(self.ratios)],
            "target": str(target) if target else None,
            "is_met": target.is_met(self.ratio) if target else None,
            "pairs": self.found.pairs,
            "details": self.found.details,
            "load": self.load,
        }


def alternate(repeats: int, measured: Callable[[], float], reference: Callable[[], float]) -> list[Pair]:
    """Measure both sides one after the other, so that a machine whose speed drifts changes both alike.

    Which side goes first changes from pair to pair. A first pair opens connections and touches memory, and is left out.

    Args:
        repeats: How many pairs.
        measured: Measures once, in the row's unit.
        reference: The same for the reference.
    """
    pairs = []
    for number in range(1 + repeats):
        if number % 2:
            first = measured()
            pairs.append((first, reference()))
        else:
            second = reference()
            pairs.append((measured(), second))
    return pairs[1:]


def seconds_of(action: Callable[[], object]) -> float:
    """How long something takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
