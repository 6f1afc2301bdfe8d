"""CONSGD: every update counts the same, whoever sent it and however late; w -= lr * rate * g.

The rule that Jiang, Cui, Zhang, Yu, "Heterogeneity-aware distributed parameter servers" (2017), compare theirs with.
"""

from __future__ import annotations

import math

import numpy as np

from p2pdl.aggregation.contract import Update
from p2pdl.aggregation.stateless import Stateless
from p2pdl.types import Float32Vector


class Constant(Stateless):
    """One rate for all; 1 / (number of workers) keeps the length of a step what one worker's would be.

    Args:
        rate: Above 0.

    Raises:
        ValueError: The rate is not above 0.
    """

    name = "consgd"

    def __init__(self, rate: float = 1.0) -> None:
        if not 0.0 < rate < math.inf:
            raise ValueError(f"consgd needs a rate above 0, not {rate}")
        self._rate = np.float32(rate)

    def scaled(self, update: Update) -> Float32Vector:
        """The values times the rate; themselves if it is 1."""
        return update.values if self._rate == 1.0 else update.values * self._rate
