"""Top fraction: the fraction of the entries with the greatest magnitude is sent, and the rest waits.

Dryden, Jacobs, Moon, Van Essen, "Communication Quantization for Data-Parallel Training of Deep Neural Networks", 2016;
Aji, Heafield, "Sparse Communication for Distributed Gradient Descent", 2017, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.sparsifier.contract import Selection
from p2pdl.sparsifier.fraction import GreatestFraction, require_fraction
from p2pdl.sparsifier.residual import admit
from p2pdl.sparsifier.spans import trained_spans, variable_spans
from p2pdl.sparsifier.with_residual import WithResidual
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector


@dataclass(frozen=True, slots=True)
class TopFractionSettings:
    """Settings of `top-fraction`.

    Attributes:
        fraction: Share of the entries that is sent, above 0, 1 at most.
        per_variable: Whether entries are compared within their variable, instead of within the model.
        residual: Whether what is not sent is added to the next gradient.

    Raises:
        ValueError: The fraction is out of range.
    """

    fraction: float = 0.01
    per_variable: bool = False
    residual: bool = True

    def __post_init__(self) -> None:
        require_fraction(self.fraction)


class TopFraction(WithResidual):
    """Sends the ceil(fraction * entries) greatest magnitudes of gradient plus residual.

    Args:
        spec: The layout of the vector.
        settings: Its settings.
        seed: Not read: there is no chance.
    """

    name = "top-fraction"

    def __init__(self, spec: WeightSpec, settings: TopFractionSettings, seed: int) -> None:
        units = [(span,) for span in variable_spans(spec)] if settings.per_variable else [trained_spans(spec)]
        self._greatest = GreatestFraction(spec.size, units, settings.fraction, settings.residual)
        super().__init__(self._greatest.residual)
        self._size = spec.size

    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """See `GradientSparsifier.select`."""
        admit(gradient, self._size)
        return self._greatest.select(gradient)
