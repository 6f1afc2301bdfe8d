"""Arrays of a checkpoint, taken back only if they are what is expected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from p2pdl.aggregation.contract import State
from p2pdl.errors import CheckpointMismatch

REMEDY = "resume with the server settings of the run, or start a new run directory"


def saved(state: State, name: str, dtype: DTypeLike, shape: tuple[int, ...] | None) -> NDArray[Any]:
    """A copy of one array.

    Args:
        state: The arrays by name.
        name: Which.
        dtype: What it has to be made of.
        shape: What it has to be like; None for a vector of any size.

    Raises:
        CheckpointMismatch: It is not there or not like that.
    """
    if name not in state:
        raise CheckpointMismatch(f"the checkpoint has no array {name!r}: it is of another rule or optimizer", REMEDY)
    array = state[name]
    if array.dtype != dtype or (array.ndim != 1 if shape is None else array.shape != shape):
        raise CheckpointMismatch(
            f"the checkpoint's array {name!r} is {array.dtype} of shape {array.shape}, not "
            f"{np.dtype(dtype)} of {'one dimension' if shape is None else f'shape {shape}'}",
            REMEDY,
        )
    return array.copy()


def expect_nothing(state: State, name: str) -> None:
    """Check that there is nothing to restore for a rule or an optimizer that keeps nothing.

    Raises:
        CheckpointMismatch: There is something.
    """
    if state:
        raise CheckpointMismatch(f"{name} keeps nothing, but the checkpoint has {', '.join(sorted(state))}", REMEDY)


def named(state: State, prefix: str) -> list[str]:
    """What follows `prefix/` in the names of arrays, sorted."""
    return sorted(name.removeprefix(f"{prefix}/") for name in state if name.startswith(f"{prefix}/"))
