"""The data sources by name, and how the data of a configuration is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from p2pdl.errors import DataUnavailable
from p2pdl.training.data.dataset import Dataset
from p2pdl.training.data.digits import load_digits
from p2pdl.training.data.keras_loader import load_from_keras
from p2pdl.training.data.npz_file import load_npz
from p2pdl.training.data.user_data import load_from_function

SOURCES: dict[str, Callable[[str], Dataset]] = {
    "digits": load_digits,
    "mnist": load_from_keras,
    "fashion_mnist": load_from_keras,
    "cifar10": load_from_keras,
    "cifar100": load_from_keras,
}
"""Loaders of the sources that are known by name."""


def load(source: str, folder: Path) -> Dataset:
    """Load the data of a configuration.

    Args:
        source: A key of `SOURCES`, `npz:PATH` or `module:function`.
        folder: The configuration file's folder, where relative paths start and the user's module may lie.

    Raises:
        DataUnavailable: There is no such source, or its data is missing or malformed.
    """
    if source.startswith("npz:"):
        return load_npz(source, folder)
    if ":" in source:
        return load_from_function(source, folder)
    if source not in SOURCES:
        near = difflib.get_close_matches(source, SOURCES, n=1)
        raise DataUnavailable(
            f"there is no data source {source!r}" + (f"; the nearest name is {near[0]}" if near else ""),
            f"set data.source to {', '.join(SOURCES)}, npz:PATH or module:function",
        )
    return SOURCES[source](source)
