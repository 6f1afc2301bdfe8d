"""Training that has diverged, and what is said of it."""

from __future__ import annotations

import numpy as np

from p2pdl.errors import DivergedError
from p2pdl.types import Float32Vector


def diverged(step: int, loss: float) -> DivergedError:
    """What is said of a step whose loss is not finite."""
    return DivergedError(
        f"the loss of step {step} is {loss}: training has diverged; nothing of it was published",
        "lower train.optimizer.learning_rate, or check the data for extreme values",
    )


def diverged_update(step: int) -> DivergedError:
    """What is said of a step that made something that is not finite, though its loss was."""
    return DivergedError(
        f"what step {step} has made of its batch is not finite: training has diverged; nothing of it was pushed",
        "lower train.optimizer.learning_rate, or check the data for extreme values",
    )


def is_finite(values: Float32Vector) -> bool:
    """Whether every value is finite, and the sum of their squares is: in one pass, and without memory."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.einsum("i,i->", values, values)))
