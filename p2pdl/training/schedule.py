"""How the learning rate changes over a run: as a share of the configured one, by the step that comes next.

Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), equation 5, without restarts; Goyal
et al., "Accurate, Large Minibatch SGD" (2017), section 2.2, for the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


def _constant(done: float) -> float:
    return 1.0


def _linear(done: float) -> float:
    return 1.0 - done


def _cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": _constant, "linear": _linear, "cosine": _cosine}
"""By name: the share of the learning rate after a share of what follows the warm-up, both in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate's share for each step of a run.

    Attributes:
        name: A key of `SCHEDULES`.
        warm_up: Share of the steps in which it grows from near 0, in [0, 1).
        steps: Of the whole run.
    """

    name: str
    warm_up: float
    steps: int

    @property
    def is_constant(self) -> bool:
        """Whether it is 1 for every step."""
        return self.name == "constant" and not self._warm_steps

    def share(self, step: int) -> float:
        """What the learning rate is multiplied by in a step: above 0 within the run, and at most 1.

        Args:
            step: Counted from 0.
        """
        warm = self._warm_steps
        if step < warm:
            return (step + 1) / (warm + 1)
        done = (step - warm) / (self.steps - warm) if step < self.steps else 1.0
        return SCHEDULES[self.name](done)

    @property
    def _warm_steps(self) -> int:
        return round(self.warm_up * self.steps)
