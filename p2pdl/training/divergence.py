"""Training that has diverged, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from p2pdl.errors import DivergedError


def diverged(step: int, loss: float) -> DivergedError:
    """What is said of a step whose loss is not finite."""
    return DivergedError(f"the loss of step {step} is {loss}: training has diverged; nothing of it was published")


def diverged_update(step: int) -> DivergedError:
    """What is said of a step that made something that is not finite, though its loss was."""
    return DivergedError(
        f"what step {step} has made of its batch is not finite: training has diverged; nothing of it was pushed"
    )


def confirm_finite(step: int, arrays: Iterable[np.ndarray]) -> None:
    """Look at weights, and whatever else the next step depends on: a loss may stay finite though they are not.

    Raises:
        DivergedError: A value is NaN or infinite.
    """
    if not all(np.isfinite(array).all() for array in arrays if _is_float(array.dtype)):
        raise DivergedError(
            f"the weights, or what the optimizer keeps, are not finite after step {step}: training has diverged"
        )


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"
