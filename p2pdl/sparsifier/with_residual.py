"""What the sparsifiers with error feedback have in common: the residual is all that they remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from p2pdl.sparsifier.contract import Balance
from p2pdl.sparsifier.residual import Residual
from p2pdl.sparsifier.saved import take_over
from p2pdl.types import Float32Vector


class WithResidual:
    """The part of `GradientSparsifier` that follows from the residual.

    Args:
        residual: What is kept of what is not sent.
    """

    def __init__(self, residual: Residual) -> None:
        self._residual = residual

    @property
    def balance(self) -> Balance:
        """Nothing is lost, unless there is no residual."""
        return Balance.DROPPED if self._residual.vector is None else Balance.KEPT

    @property
    def residual(self) -> Float32Vector | None:
        """See `GradientSparsifier.residual`."""
        return self._residual.view

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """The residual, if there is one."""
        return {} if self._residual.vector is None else {"residual": self._residual.vector}

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """See `GradientSparsifier.restore`."""
        take_over(self.state(), arrays)
