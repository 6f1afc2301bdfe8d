"""Data from a function of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pdl.errors import DataUnavailable
from p2pdl.training.data.dataset import Dataset, checked_dataset
from p2pdl.training.user_function import call_user_function


def load_from_function(source: str, folder: Path) -> Dataset:
    """Call `module:function` without arguments.

    It returns `((x_train, y_train), (x_test, y_test))`, or a mapping with these four names.

    Args:
        source: `module:function`.
        folder: The configuration file's folder, where the module may lie.

    Raises:
        DataUnavailable: The function fails, or what it returns cannot be used.
    """
    returned = call_user_function(source, folder, {}, {}, DataUnavailable)
    return checked_dataset(source, source, _named(returned, source))


def _named(returned: Any, source: str) -> dict[str, Any]:
    if isinstance(returned, dict):
        return returned
    try:
        (x_train, y_train), (x_test, y_test) = returned
    except (TypeError, ValueError):
        raise DataUnavailable(
            f"{source} returned a {type(returned).__name__} that is not ((x_train, y_train), (x_test, y_test))",
            "return two pairs of arrays, or a dict with x_train, y_train, x_test and y_test",
        ) from None
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
