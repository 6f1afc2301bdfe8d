"""Scikit-learn's handwritten digits: 1797 images of 8 x 8, in the package itself, so there without a network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pdl.training.data.dataset import Dataset, checked_dataset

FILE = Path("datasets", "data", "digits.csv.gz")
"""In scikit-learn's package: 64 pixels and a label in each row."""

TEST_EVERY = 5
"""Of each digit, every fifth image in the set's own order is a test image."""


def load_digits(source: str) -> Dataset:
    """1433 training and 364 test images, shape (8, 8, 1), values in [0, 1].

    Args:
        source: `digits`.
    """
    pixels, labels = _bundled()
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    test = np.zeros(len(images), dtype=bool)
    for digit in range(10):
        test[np.flatnonzero(labels == digit)[::TEST_EVERY]] = True
    arrays = {
        "x_train": images[~test],
        "y_train": labels[~test],
        "x_test": images[test],
        "y_test": labels[test],
    }
    return checked_dataset(source, "scikit-learn's digits", arrays)


def _bundled() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The pixels, shape (1797, 64), from 0 to 16, and the labels.

    They are read out of the package's file: to load the package takes more than a second.
    """
    package = find_spec("sklearn")
    folders = (package and package.submodule_search_locations) or []
    for file in (Path(folder) / FILE for folder in folders):
        if file.exists():
            rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1], rows[:, -1].astype(np.int64)
    # A release that keeps them elsewhere knows where.
    from sklearn.datasets import load_digits as load_bundled_digits

    pixels, labels = load_bundled_digits(return_X_y=True)
    return pixels, labels
