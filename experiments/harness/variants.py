"""Variants of a base case that differ in one setting, each with some seeds: means, and what they cost in points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.harness.experiment import Figures, Results

Reader = Callable[[Figures], float | None]
"""Takes one figure out of those of a case."""


def accuracy(found: Figures) -> float | None:
    """Of the consensus; of nodes that have none, their median."""
    value: float | None = found["accuracy"]
    return value


class Variants:
    """What is known of each variant.

    Args:
        results: Figures of the cases that are done.
        seeds: Each variant has a case for each, named by `case_name`.
    """

    def __init__(self, results: Results, seeds: Sequence[int]) -> None:
        self._results = results
        self._seeds = seeds

    def done(self, variant: str) -> list[Figures]:
        """Its cases that are done."""
        names = (case_name(variant, seed) for seed in self._seeds)
        return [self._results[name] for name in names if name in self._results]

    def first(self, variant: str) -> Figures | None:
        """Its case with the first of the seeds that are done."""
        return next(iter(self.done(variant)), None)

    def mean(self, variant: str, read: Reader = accuracy) -> float | None:
        """The mean of a figure over the seeds that are done; None where it is not known."""
        values = [value for found in self.done(variant) if (value := read(found)) is not None]
        return float(np.mean(values)) if values else None

    def points(self, variant: str, base: str) -> float | None:
        """Points by which its accuracy is above another one's, seed by seed, in the mean; None where none is known."""
        both = []
        for seed in self._seeds:
            here, there = (self._results.get(case_name(one, seed)) for one in (variant, base))
            if here is not None and there is not None:
                both.append((accuracy(here), accuracy(there)))
        known = [100.0 * (here - there) for here, there in both if here is not None and there is not None]
        return float(np.mean(known)) if known else None

    def spread(self, variants: Sequence[str]) -> float | None:
        """Points between the best and the worst of some variants; None until all are known."""
        values = [value for name in variants if (value := self.mean(name)) is not None]
        return 100.0 * (max(values) - min(values)) if values and len(values) == len(variants) else None


def case_name(variant: str, seed: int) -> str:
    """Of a variant with a seed."""
    return f"{variant}-seed{seed}"


def error(accuracy: float | None) -> float | None:
    """Percent that are wrong: what tells good accuracies apart in a picture."""
    return None if accuracy is None else 100.0 * (1.0 - accuracy)


def signed(points: float | None) -> str:
    """Points with their sign, two decimals."""
    return "-" if points is None else f"{points:+.2f}"


def from_to(values: Sequence[float | None]) -> str:
    """The least and the greatest of some accuracies."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{min(known):.4f} to {max(known):.4f}" if len(known) > 1 else f"{known[0]:.4f}"
