"""Labelled data for classification, checked once when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from p2pdl.errors import DataUnavailable

UINT8_SCALE = np.float32(1 / 255)
"""What values stored as uint8 are multiplied with; all others are taken as they are."""

_CHECKED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Dataset:
    """Training and test samples with their labels.

    Values stay in their stored form until a batch is made of them: pixels as uint8 need a quarter of the
    memory. `scaled` makes float32 of either.

    Attributes:
        name: The data source.
        x_train: Samples, shape (n, *input_shape), uint8 or float32.
        y_train: Labels 0 .. classes - 1, int32, shape (n,).
        x_test: As `x_train`.
        y_test: As `y_train`.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.x_train.shape[1:]

    @cached_property
    def classes(self) -> int:
        """Number of classes: the greatest label plus one."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def scaled(x: np.ndarray) -> np.ndarray:
    """Values as float32: those of uint8 in [0, 1], all others unchanged.

    Args:
        x: Any stored values, uint8 or float32.
    """
    return np.multiply(x, UINT8_SCALE, dtype=np.float32) if x.dtype == np.uint8 else x


def checked_dataset(name: str, origin: str, arrays: dict[str, Any]) -> Dataset:
    """A data set of the four arrays of a source, or the reason why they make none.

    Images of uint8 without a channel axis get one. Other numbers than uint8 become float32.

    Args:
        name: The data source, as in the configuration.
        origin: The file or function that the arrays are from, for the messages.
        arrays: `x_train`, `y_train`, `x_test`, `y_test`.

    Raises:
        DataUnavailable: An array is missing, or cannot be used.
    """
    missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in arrays]
    if missing:
        raise DataUnavailable(
            f"{origin} has no {', '.join(missing)}; it has {', '.join(map(str, arrays)) or 'nothing'}",
            "it must hold x_train, y_train, x_test and y_test",
        )
    dataset = Dataset(
        name,
        _samples(arrays["x_train"], "x_train", origin),
        _labels(arrays["y_train"], "y_train", origin),
        _samples(arrays["x_test"], "x_test", origin),
        _labels(arrays["y_test"], "y_test", origin),
    )
    for split, x, y in (
        ("train", dataset.x_train, dataset.y_train),
        ("test", dataset.x_test, dataset.y_test),
    ):
        if len(x) != len(y):
            raise DataUnavailable(
                f"{origin}: x_{split} has {len(x)} samples, but y_{split} has {len(y)} labels",
                "there must be one label for each sample",
            )
    if dataset.x_train.shape[1:] != dataset.x_test.shape[1:] or dataset.x_train.dtype != dataset.x_test.dtype:
        raise DataUnavailable(
            f"{origin}: samples of x_train are {_kind(dataset.x_train)}, those of x_test {_kind(dataset.x_test)}",
            "both must have the same shape and dtype",
        )
    if dataset.classes < 2:
        raise DataUnavailable(
            f"{origin}: every label is 0", "labels are class numbers, 0 to the number of classes minus one"
        )
    return dataset


def _samples(values: Any, key: str, origin: str) -> np.ndarray:
    x = _numbers(values, key, origin)
    if x.ndim < 2 or x.size == 0:
        raise DataUnavailable(
            f"{origin}: {key} has shape {x.shape}",
            "its first axis counts samples, at least one, and it needs at least one more axis for their values",
        )
    if x.dtype == np.uint8:
        return x[..., np.newaxis] if x.ndim == 3 else x
    with np.errstate(over="ignore"):
        x = np.asarray(x, dtype=np.float32)
    _require_finite(x, key, origin)
    return x


def _labels(values: Any, key: str, origin: str) -> np.ndarray:
    y = _numbers(values, key, origin)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.size == 0:
        raise DataUnavailable(
            f"{origin}: {key} has shape {y.shape}, not (samples,)",
            "labels are class numbers; make them of one-hot rows with numpy.argmax(y, axis=1)",
        )
    _require_finite(y, key, origin)
    whole = y.astype(np.int64)
    if (whole != y).any() or whole.min() < 0 or whole.max() > np.iinfo(np.int32).max:
        wrong = y[(whole != y) | (whole < 0) | (whole > np.iinfo(np.int32).max)][0]
        raise DataUnavailable(
            f"{origin}: {key} contains the label {wrong}",
            "labels are class numbers, 0 to the number of classes minus one",
        )
    return whole.astype(np.int32)


def _numbers(values: Any, key: str, origin: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataUnavailable(
            f"{origin}: {key} is no array of numbers: {error}", "make all its samples the same shape"
        ) from error
    if array.dtype.kind not in "buif" and array.dtype.name != "bfloat16":
        raise DataUnavailable(
            f"{origin}: {key} has dtype {array.dtype}", "store it as uint8, float32 or an integer dtype"
        )
    return array


def _require_finite(array: np.ndarray, key: str, origin: str) -> None:
    rows = max(1, _CHECKED_AT_ONCE * len(array) // array.size)
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        if not np.isfinite(part).all():
            row = start + int(np.argwhere(~np.isfinite(part))[0, 0])
            raise DataUnavailable(
                f"{origin}: {key}[{row}] contains NaN, or a number too great for float32",
                "remove or replace such values",
            )


def _kind(x: np.ndarray) -> str:
    return f"{x.dtype} {x.shape[1:]}"
