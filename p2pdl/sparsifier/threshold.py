"""Threshold: entries of at least a fixed magnitude are sent.

Strom, "Scalable Distributed DNN Training Using Commodity GPU Cloud Computing", 2015: what is not sent waits in the
residual. There an entry is sent as plus or minus the threshold and the rest of it waits too; here it is sent whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pdl.codec.greatest import TINY
from p2pdl.sparsifier.comparison import Comparison
from p2pdl.sparsifier.contract import Selection
from p2pdl.sparsifier.entries import Entries
from p2pdl.sparsifier.residual import GREATEST, Residual, admit
from p2pdl.sparsifier.spans import pieces, trained_spans
from p2pdl.sparsifier.with_residual import WithResidual
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector


@dataclass(frozen=True, slots=True)
class ThresholdSettings:
    """Settings of `threshold`.

    Attributes:
        threshold: The least magnitude that is sent; above 0.
        residual: Whether what is not sent is added to the next gradient; without it this is the threshold SGD that
            eSGD (Tao, Li, 2018) compares itself with.

    Raises:
        ValueError: The threshold is no float32 above 0.
    """

    threshold: float = 0.001
    residual: bool = True

    def __post_init__(self) -> None:
        if not float(TINY) <= self.threshold <= GREATEST:
            raise ValueError(f"the threshold must be a float32 above 0, not {self.threshold}")


class Threshold(WithResidual):
    """Sends a where abs(a) >= threshold, a being gradient plus residual.

    Args:
        spec: The layout of the vector.
        settings: Its settings.
        seed: Not read: there is no chance.
    """

    name = "threshold"

    def __init__(self, spec: WeightSpec, settings: ThresholdSettings, seed: int) -> None:
        super().__init__(Residual(spec.size, settings.residual))
        self._size = spec.size
        self._threshold = np.float32(settings.threshold)
        self._pieces = pieces(trained_spans(spec))
        self._entries = Entries(spec.size)
        self._comparison = Comparison()

    @np.errstate(over="ignore", invalid="ignore")
    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """See `GradientSparsifier.select`."""
        admit(gradient, self._size)
        self._entries.cut(0)
        for piece in self._pieces:
            waiting, magnitudes = self._residual.add(gradient, piece)
            kept = self._comparison.at_least(magnitudes, self._threshold)
            self._entries.add(piece.start, kept, waiting)
            if self._residual.vector is not None:
                waiting[kept] = 0.0
        return self._entries.selection()
