"""Scikit-learn's handwritten digits: 1797 images of 8 x 8, in the package itself, so there without a network."""

from __future__ import annotations

import numpy as np

from p2pdl.training.data.dataset import Dataset, checked_dataset

TEST_EVERY = 5
"""Of each digit, every fifth image in the set's own order is a test image."""


def load_digits(source: str) -> Dataset:
    """1433 training and 364 test images, shape (8, 8, 1), values in [0, 1].

    Args:
        source: `digits`.
    """
    from sklearn.datasets import load_digits as load_bundled_digits

    bundled = load_bundled_digits()
    images = (bundled.images / 16).astype(np.float32)[..., np.newaxis]
    test = np.zeros(len(images), dtype=bool)
    for digit in range(10):
        test[np.flatnonzero(bundled.target == digit)[::TEST_EVERY]] = True
    arrays = {
        "x_train": images[~test],
        "y_train": bundled.target[~test],
        "x_test": images[test],
        "y_test": bundled.target[test],
    }
    return checked_dataset(source, "scikit-learn's digits", arrays)
