"""AdaComp: of each variable the fraction of entries with the greatest magnitude is sent, chosen anew each iteration.

Hardy, Le Merrer, Sericola, "Distributed deep learning on edge-devices in the Parameter Server Model", 2017. This is
the worker's half; the rates by staleness are the server's.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.sparsifier.contract import Selection
from p2pdl.sparsifier.fraction import GreatestFraction, require_fraction
from p2pdl.sparsifier.residual import admit
from p2pdl.sparsifier.spans import variable_spans
from p2pdl.sparsifier.with_residual import WithResidual
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector


@dataclass(frozen=True, slots=True)
class AdaCompSettings:
    """Settings of `adacomp`.

    Attributes:
        fraction: The paper's c, share of the entries of each variable that is sent, above 0, 1 at most.
        residual: Whether what is not sent is added to the next gradient. The paper does not say. With it, four workers
            on the digits, 300 steps each, c = 0.01, came to an accuracy of 0.97 both in step and each at its own pace,
            as with whole gradients; without it to 0.93 and 0.91. It costs one copy of the model in memory.

    Raises:
        ValueError: The fraction is out of range.
    """

    fraction: float = 0.01
    residual: bool = True

    def __post_init__(self) -> None:
        require_fraction(self.fraction)


class AdaComp(WithResidual):
    """Sends the ceil(fraction * entries) greatest magnitudes of each variable.

    Args:
        spec: The layout of the vector.
        settings: Its settings.
        seed: Not read: there is no chance.
    """

    name = "adacomp"

    def __init__(self, spec: WeightSpec, settings: AdaCompSettings, seed: int) -> None:
        units = [(span,) for span in variable_spans(spec)]
        self._greatest = GreatestFraction(spec.size, units, settings.fraction, settings.residual)
        super().__init__(self._greatest.residual)
        self._size = spec.size

    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """See `GradientSparsifier.select`."""
        admit(gradient, self._size)
        return self._greatest.select(gradient)
