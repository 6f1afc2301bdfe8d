"""Arrays to save, and how to tell whether they came back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from p2pdl.checkpoint.folder import CheckpointFolder

NOBODY = 65534


def arrays_of(step: int, elements: int = 5000) -> dict[str, np.ndarray]:
    """Arrays of several kinds, different at each step, and made in less time than it takes to save them."""
    counted = np.arange(step, step + elements, dtype=np.float32)
    return {
        "model/kernel": counted.reshape(-1, 10),
        "model/half": counted[::7].astype(ml_dtypes.bfloat16),
        "model/seeds": np.array([step, 2**63 - step], np.uint64),
        "optimizer/größe": np.array(step, np.int64),
        "optimizer/empty": np.zeros((0, 3), np.float32),
        "optimizer/mask": counted > 1000,
    }


def assert_same(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Names in the same order, dtypes, shapes and every bit, NaN included."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape), name
        assert actual[name].tobytes() == array.tobytes(), name


def assert_newest(folder: CheckpointFolder, step: int) -> None:
    """The newest checkpoint is that of a step, with the arrays of that step."""
    newest = folder.newest()
    assert newest is not None
    assert (newest.step, newest.header) == (step, {"step": step})
    assert_same(newest.arrays, arrays_of(step))


def temporary_files(folder: Path) -> list[str]:
    """What half-written files there are."""
    return sorted(entry.name for entry in folder.iterdir() if ".tmp-" in entry.name)


def checkpoints(folder: Path) -> list[str]:
    """The names of everything in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Be a user for whom permissions count, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
