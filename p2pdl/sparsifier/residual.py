"""Error feedback: what is not sent is added to the next gradient.

Seide, Fu, Droppo, Li, Yu, "1-Bit Stochastic Gradient Descent", 2014; Strom, "Scalable Distributed DNN Training Using
Commodity GPU Cloud Computing", 2015; Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", 2018, Algorithm 1.
"""

from __future__ import annotations

import numpy as np

from p2pdl.codec.finite import is_finite
from p2pdl.errors import DivergedError
from p2pdl.sparsifier.comparison import Comparison
from p2pdl.types import Float32Vector, Indices

GREATEST = float(np.finfo(np.float32).max)
"""The greatest float32."""


def admit(gradient: Float32Vector, size: int) -> None:
    """Refuse a gradient that must not get into a residual, where it would stay for good.

    Raises:
        DivergedError: It is not finite.
        ValueError: It is no float32 vector of that size.
    """
    require_form(gradient, size)
    if not is_finite(gradient):
        raise diverged()


def require_form(gradient: Float32Vector, size: int) -> None:
    """Check what can be checked without a look at the values.

    Raises:
        ValueError: It is no float32 vector of that size.
    """
    if gradient.shape != (size,) or gradient.dtype != np.float32:
        raise ValueError(f"a gradient must be float32 of shape ({size},), not {gradient.dtype} of {gradient.shape}")


def diverged() -> DivergedError:
    """The error for a gradient that is not finite."""
    return DivergedError("the gradient is not finite: training has diverged; nothing of it was sent")


class Residual:
    """What has not been sent.

    Args:
        size: Elements of the vector.
        kept: False if what is not sent is dropped.
    """

    def __init__(self, size: int, kept: bool) -> None:
        self.vector: Float32Vector | None = np.zeros(size, np.float32) if kept else None
        self._comparison = Comparison()

    @property
    def view(self) -> Float32Vector | None:
        """The residual, read only."""
        if self.vector is None:
            return None
        view = self.vector.view()
        view.flags.writeable = False
        return view

    def add(self, gradient: Float32Vector, piece: slice) -> tuple[Float32Vector, Float32Vector]:
        """Add a piece of the gradient; what there is to send of it now, and its magnitudes until the next call.

        Callers ignore overflow: a sum beyond float32 is held at its greatest number.
        """
        if self.vector is None:
            values = gradient[piece]
            return values, self._comparison.magnitudes(values)
        waiting = self.vector[piece]
        waiting += gradient[piece]
        magnitudes = self._comparison.magnitudes(waiting)
        if not np.maximum.reduce(magnitudes) <= GREATEST:
            np.clip(waiting, -GREATEST, GREATEST, out=waiting)
            magnitudes = self._comparison.magnitudes(waiting)
        return waiting, magnitudes

    def peek(self, gradient: Float32Vector, piece: slice) -> Float32Vector:
        """What `add` would make of some entries, without adding them."""
        return gradient[piece] if self.vector is None else gradient[piece] + self.vector[piece]

    def waiting(self, gradient: Float32Vector) -> Float32Vector:
        """What there is to send after all pieces have been added, shape (size,)."""
        return gradient if self.vector is None else self.vector

    def sent(self, indices: Indices) -> None:
        """Take out what is sent."""
        if self.vector is not None:
            self.vector[indices] = 0.0
