"""States in a checkpoint: named arrays, checked as a whole before the first of them is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from p2pdl.errors import CheckpointMismatch

Arrays = Mapping[str, np.ndarray[Any, Any]]

_REMEDY = "start with the sparsifier and the model of the checkpoint, or without the checkpoint"


def take_over(own: Arrays, saved: Arrays) -> None:
    """Copy what was saved into the arrays of the same names.

    Raises:
        CheckpointMismatch: Names, shapes or dtypes differ; nothing has been copied.
    """
    if own.keys() != saved.keys():
        here, there = ", ".join(sorted(own)) or "nothing", ", ".join(sorted(saved)) or "nothing"
        raise CheckpointMismatch(f"the sparsifier keeps {here}, and the checkpoint has {there}", _REMEDY)
    for name, array in own.items():
        if (array.shape, array.dtype) != (saved[name].shape, saved[name].dtype):
            raise CheckpointMismatch(
                f"the sparsifier's {name} is {array.dtype} of {array.shape} here, and {saved[name].dtype} of "
                f"{saved[name].shape} in the checkpoint",
                _REMEDY,
            )
    for name, array in own.items():
        array[...] = saved[name]


def generator_state(generator: np.random.SFC64) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Where a generator of whole 64-bit words stands, shape (4,)."""
    state: np.ndarray[Any, np.dtype[np.uint64]] = np.array(generator.state["state"]["state"], np.uint64)
    return state


def set_generator(generator: np.random.SFC64, words: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
    """Let a generator go on from where another one stood."""
    state = generator.state
    state["state"]["state"] = words.copy()
    generator.state = state
