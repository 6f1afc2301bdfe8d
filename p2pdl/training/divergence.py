"""Training that has diverged, and what is said of it."""

from __future__ import annotations

from p2pdl.errors import DivergedError


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
