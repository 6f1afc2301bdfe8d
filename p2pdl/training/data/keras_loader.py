"""The image data sets that Keras downloads once and keeps in ~/.keras/datasets."""

from __future__ import annotations

import importlib

from p2pdl.errors import DataUnavailable
from p2pdl.training.data.dataset import Dataset, checked_dataset


def load_from_keras(source: str) -> Dataset:
    """Load by Keras' own loader.

    Args:
        source: The name of a module in `keras.datasets`, such as `mnist`.

    Raises:
        DataUnavailable: It is not on this machine and cannot be downloaded.
    """
    loader = importlib.import_module(f"keras.datasets.{source}")
    try:
        (x_train, y_train), (x_test, y_test) = loader.load_data()
    except Exception as error:
        raise DataUnavailable(
            f"{source} is not on this machine, and Keras cannot download it: {error}",
            "copy it to ~/.keras/datasets from a machine that has it, "
            "or set data.source to npz:PATH with a file of your own, or to digits, which needs no download",
        ) from error
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return checked_dataset(source, f"Keras' {source}", arrays)
