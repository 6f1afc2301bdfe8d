"""None: the whole gradient is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pdl.sparsifier.contract import Balance, Selection
from p2pdl.sparsifier.residual import admit
from p2pdl.sparsifier.saved import take_over
from p2pdl.sparsifier.spans import untrained_indices
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector


@dataclass(frozen=True, slots=True)
class EverythingSettings:
    """There is nothing to set."""


class Everything:
    """Sends all entries, the gradient itself where it is zero outside the trained ones already.

    Args:
        spec: The layout of the vector.
        settings: Its settings.
        seed: Not read: there is no chance.
    """

    name = "none"
    balance = Balance.KEPT
    residual = None

    def __init__(self, spec: WeightSpec, settings: EverythingSettings, seed: int) -> None:
        self._size = spec.size
        self._untrained = untrained_indices(spec)

    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """See `GradientSparsifier.select`."""
        admit(gradient, self._size)
        if gradient.take(self._untrained).any():
            values = gradient.copy()
            values[self._untrained] = 0.0
        else:
            values = gradient.view()
        values.flags.writeable = False
        return Selection(None, values)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Nothing."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """See `GradientSparsifier.restore`."""
        take_over({}, arrays)
