"""Mean threshold: entries that are at least as great as the mean magnitude of their variable are sent.

Cui, "Decentralized Deep Learning with Gradient Compression", 2019, Algorithm 1, lines 15-16, over magnitudes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2pdl.codec.greatest import TINY
from p2pdl.sparsifier.comparison import Comparison, total
from p2pdl.sparsifier.contract import Selection
from p2pdl.sparsifier.entries import Entries
from p2pdl.sparsifier.residual import GREATEST, Residual, admit, diverged, require_form
from p2pdl.sparsifier.spans import entries_in, pieces, variable_spans
from p2pdl.sparsifier.with_residual import WithResidual
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector

_ROUNDING = 1e-5
"""Relative error of a float32 mean: without this slack the mean of equal entries can exceed all of them."""


@dataclass(frozen=True, slots=True)
class MeanThresholdSettings:
    """Settings of `mean-threshold`.

    Attributes:
        residual: Whether what is not sent is added to the next gradient; in the paper it is dropped.
    """

    residual: bool = False


class MeanThreshold(WithResidual):
    """Sends a where abs(a) >= mean(abs(a)) of the variable: 42 % of normal entries.

    Args:
        spec: The layout of the vector.
        settings: Its settings.
        seed: Not read: there is no chance.
    """

    name = "mean-threshold"

    def __init__(self, spec: WeightSpec, settings: MeanThresholdSettings, seed: int) -> None:
        super().__init__(Residual(spec.size, settings.residual))
        self._size = spec.size
        self._variables = [(entries_in([span]), pieces([span])) for span in variable_spans(spec)]
        self._entries = Entries(spec.size)
        self._comparison = Comparison()

    @np.errstate(over="ignore", invalid="ignore")
    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """See `GradientSparsifier.select`."""
        if self._residual.vector is None:
            require_form(gradient, self._size)
        else:
            admit(gradient, self._size)
        self._entries.cut(0)
        waiting = self._residual.waiting(gradient)
        for entries, parts in self._variables:
            mean = sum(total(self._residual.add(gradient, piece)[1]) for piece in parts) / entries
            if not math.isfinite(mean):
                raise diverged()
            threshold = np.float32(max(min(mean * (1.0 - _ROUNDING), GREATEST), float(TINY)))
            for piece in parts:
                values = waiting[piece]
                kept = self._comparison.at_least(self._comparison.magnitudes(values), threshold)
                self._entries.add(piece.start, kept, values)
                if self._residual.vector is not None:
                    values[kept] = 0.0
        return self._entries.selection()
