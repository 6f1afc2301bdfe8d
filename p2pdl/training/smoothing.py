"""The smoothed loss: what a node says of itself, and by which peers weigh its model."""

from __future__ import annotations

import math

LOSS_MEMORY = 0.95
"""Share of the past in the smoothed loss: about twenty steps of batch losses."""


def smoothed(previous: float, loss: float) -> float:
    """The exponentially smoothed loss after one more batch; the first batch's where there is no previous one."""
    return loss if math.isnan(previous) else previous + (1.0 - LOSS_MEMORY) * (loss - previous)
