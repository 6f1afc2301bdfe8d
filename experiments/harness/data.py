"""What an experiment trains on, by name: full data sets of a folder, small ones, or noise where only times count."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("P2PDL_DATA", Path(__file__).parents[3] / "shared" / "data"))
"""Folder of the full data sets; the environment variable P2PDL_DATA names another one."""

FULL = ("mnist", "cifar10")
NOISE = {"noise-mnist": (28, 28, 1), "noise-cifar10": (32, 32, 3)}
NOISE_SAMPLES = 1024


def missing(name: str) -> str:
    """Why this data cannot be used here; empty if it can."""
    path = DATA / f"{name}.npz"
    if name in FULL and not path.exists():
        return f"there is no {path}; set P2PDL_DATA to the folder that holds {path.name}"
    return ""


def source(name: str, folder: Path) -> str:
    """What stands in a configuration's `data.source`.

    Args:
        name: `mnist`, `cifar10`, a key of `NOISE`, or another source that p2pdl knows.
        folder: Where noise is written.
    """
    if name in FULL:
        return f"npz:{(DATA / f'{name}.npz').resolve()}"
    if name in NOISE:
        return f"npz:{write_noise(folder / f'{name}.npz', NOISE[name])}"
    return name


def write_noise(path: Path, shape: tuple[int, ...]) -> Path:
    """Random images with random labels of ten classes, the same every time."""
    random = np.random.default_rng(0)
    images = random.integers(256, size=(NOISE_SAMPLES, *shape), dtype=np.uint8)
    labels = np.arange(NOISE_SAMPLES, dtype=np.int32) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return path
