"""The figures of a run: times of steps, and the bytes that a step moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

PARAMETER_SERVER, MIRRORED = "parameter-server", "mirrored"


def step_seconds(moments: Iterable[Sequence[float]]) -> list[float]:
    """Time from each step to the next one of the same worker.

    Args:
        moments: For each worker, when its steps had their losses, in seconds, in any order.
    """
    return [float(gap) for own in moments for gap in np.diff(np.sort(np.asarray(own, np.float64)))]


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile."""
    return {"median": float(np.median(seconds)), "p90": float(np.percentile(seconds, 90))}


def bytes_per_step(strategy: str, nbytes: int, trainable_nbytes: int, workers: int) -> float:
    """What one step of one worker moves at least, by arithmetic.

    With a parameter server all weights come and a gradient goes. Around a ring of w workers each sends the gradients
    2 (w - 1) / w times.

    Args:
        strategy: `parameter-server` or `mirrored`.
        nbytes: Of all weights.
        trainable_nbytes: Of those with a gradient.
        workers: How many.
    """
    if strategy == MIRRORED:
        return 2 * (workers - 1) / workers * trainable_nbytes
    return float(nbytes + trainable_nbytes)
