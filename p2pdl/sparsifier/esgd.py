"""eSGD: the same coordinates again while the loss falls, else a draw by how often they were of use; a fading residual.

Tao, Li, "eSGD: Communication Efficient Distributed Deep Learning on the Edge", 2018, Algorithms 1 and 2. Where they
are silent or do not work to the letter:

* The threshold is the mean magnitude, and magnitudes are compared with it. The mean itself (line 3) is near zero, so
  that every second residual would displace a coordinate; `signed` gives that (digits, four workers: accuracy 0.93
  against 0.96).
* "The same" (line 6) are the same coordinates with their new values, as section 3.2 has it, not the old values.
* The hidden weight H of a coordinate rises by 1, and chances are in proportion to H + 1: uniform at the start. In
  proportion to H alone, no coordinate but the first ones would ever be drawn.
* A coordinate that is displaced was not sent: its gradient goes into the residual. One that is sent out of the
  residual leaves zero there. If more residuals reach the threshold than there are coordinates, the greatest are sent.
* The first iteration differs in nothing: there is no loss to compare, and the draw is uniform. Its residual is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pdl.codec.greatest import greatest
from p2pdl.sparsifier.comparison import Comparison, total
from p2pdl.sparsifier.contract import Balance, Selection
from p2pdl.sparsifier.displacement import Boundary, Displacement
from p2pdl.sparsifier.entries import Entries
from p2pdl.sparsifier.fraction import require_fraction
from p2pdl.sparsifier.residual import GREATEST, diverged, require_form
from p2pdl.sparsifier.saved import generator_state, set_generator, take_over
from p2pdl.sparsifier.spans import PIECE, entries_in, pieces, trained_spans
from p2pdl.sparsifier.weighted_draw import WeightedDraw
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector, Indices


@dataclass(frozen=True, slots=True)
class EsgdSettings:
    """Settings of `esgd`.

    Attributes:
        fraction: Share of the coordinates that a draw selects on average, above 0, 1 at most; 1 less the drop ratio.
        decay: The paper's beta, 0 to 1: how much of the residual an iteration leaves.
        signed: Whether the threshold is the mean itself and residuals are compared with their signs, to the letter.

    Raises:
        ValueError: A number is out of range.
    """

    fraction: float = 0.5
    decay: float = 0.9
    signed: bool = False

    def __post_init__(self) -> None:
        require_fraction(self.fraction)
        if not 0.0 <= self.decay <= 1.0:
            raise ValueError(f"the decay must be between 0 and 1, not {self.decay}")


class Esgd:
    """Coordinates by their history. Beside the residual it keeps 5 bytes for each element of the vector.

    Args:
        spec: The layout of the vector.
        settings: Its settings.
        seed: 0 or more; decides all chance.
    """

    name = "esgd"
    balance = Balance.DECAYED

    def __init__(self, spec: WeightSpec, settings: EsgdSettings, seed: int) -> None:
        spans = trained_spans(spec)
        self._size, self._coordinates = spec.size, entries_in(spans)
        self._signed, self._taken = settings.signed, np.float32(1.0 - settings.decay)
        self._pieces = pieces(spans)
        self._residual = np.zeros(spec.size, np.float32)
        self._hidden = np.zeros(spec.size, np.float32)
        self._selected = np.zeros(spec.size, np.bool_)
        self._loss = math.nan
        self._generator = np.random.SFC64(seed)
        self._draw = WeightedDraw(spans, settings.fraction, self._generator)
        self._displacement = Displacement(spans, self._pieces, self._generator)
        self._entries = Entries(spec.size)
        self._comparison = Comparison()
        self._first, self._second = np.empty(PIECE, np.float32), np.empty(PIECE, np.float32)
        self._others, self._above = np.empty(PIECE, np.bool_), np.empty(PIECE, np.bool_)

    @property
    def residual(self) -> Float32Vector | None:
        """See `GradientSparsifier.residual`."""
        view = self._residual.view()
        view.flags.writeable = False
        return view

    @np.errstate(over="ignore", invalid="ignore")
    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """See `GradientSparsifier.select`. A loss that is not known counts as one that has not fallen."""
        require_form(gradient, self._size)
        self._entries.cut(0)
        if not self._coordinates:
            return self._entries.selection()
        threshold = self._threshold(gradient)
        again = self._loss > loss
        factor = 0.0 if again else self._draw.factor(self._hidden)
        self._displacement.expect(again)
        found: list[Indices] = []
        among = 0
        for piece in self._pieces:
            hidden, selected = self._hidden[piece], self._selected[piece]
            if again:
                hidden += selected
            else:
                self._draw.draw(hidden, factor, selected)
            self._displacement.count(hidden, selected)
            among += int(np.count_nonzero(selected))
            found.append(self._accumulate(gradient, piece, threshold))
        self._loss = loss
        self._replace(gradient, np.concatenate(found), among)
        return self._entries.selection()

    def _threshold(self, gradient: Float32Vector) -> np.float32:
        """The mean over all coordinates (line 3).

        Raises:
            DivergedError: It is not finite, and so are not all of them.
        """
        if self._signed:
            mean = sum(float(gradient[piece].sum(dtype=np.float64)) for piece in self._pieces) / self._coordinates
        else:
            parts = (self._comparison.magnitudes(gradient[piece]) for piece in self._pieces)
            mean = sum(total(part) for part in parts) / self._coordinates
        if not math.isfinite(mean):
            raise diverged()
        return np.float32(min(max(mean, -GREATEST), GREATEST))

    def _accumulate(self, gradient: Float32Vector, piece: slice, threshold: np.float32) -> Indices:
        """Let the residual take up what is not selected (Algorithm 2); where it is above the threshold then."""
        residual, count = self._residual[piece], piece.stop - piece.start
        others = np.logical_not(self._selected[piece], out=self._others[:count])
        change = self._change(gradient[piece], residual)
        change *= others
        residual += change
        values = residual if self._signed else self._comparison.magnitudes(residual)
        above = np.greater(values, threshold, out=self._above[:count])
        found: Indices = np.logical_and(above, others, out=above).nonzero()[0]
        found += piece.start
        return found

    def _change(self, gradient: Float32Vector, residual: Float32Vector) -> Float32Vector:
        """By how much the residual changes; of a form that cannot overflow."""
        change = np.multiply(gradient, self._taken, out=self._first[: gradient.size])
        change -= np.multiply(residual, self._taken, out=self._second[: gradient.size])
        return change

    def _replace(self, gradient: Float32Vector, found: Indices, among: int) -> None:
        """Send residuals in the place of the selected coordinates of least hidden weight (lines 13 to 15)."""
        if found.size > among:
            values = self._residual.take(found)
            found = found.take(greatest(values if self._signed else np.abs(values), among))
        boundary = None
        if found.size:
            boundary = self._displacement.boundary(self._hidden, self._selected, found.size, among)
        bounds = np.searchsorted(found, [bound for piece in self._pieces for bound in (piece.start, piece.stop)])
        passed = 0
        for number, piece in enumerate(self._pieces):
            if boundary is not None:
                passed = self._give_way(gradient, piece, boundary, passed)
            self._collect(gradient, piece, found[bounds[2 * number] : bounds[2 * number + 1]] - piece.start)

    def _give_way(self, gradient: Float32Vector, piece: slice, boundary: Boundary, passed: int) -> int:
        """Take out of the selection what lies within the boundary; how many of its weight have been passed by then."""
        hidden, selected, residual = self._hidden[piece], self._selected[piece], self._residual[piece]
        at, below = self._above[: hidden.size], self._others[: hidden.size]
        np.logical_and(np.equal(hidden, boundary.weight, out=at), selected, out=at)
        equal = at.nonzero()[0]
        first, last = boundary.ties.searchsorted((passed, passed + equal.size))
        leaving = [equal.take(boundary.ties[first:last] - passed)]
        if boundary.has_smaller:
            np.logical_and(np.less(hidden, boundary.weight, out=below), selected, out=below)
            leaving.append(below.nonzero()[0])
        for places in leaving:
            selected[places] = False
            waiting = residual.take(places)
            residual[places] = waiting + self._change(gradient[piece].take(places), waiting)
        return passed + equal.size

    def _collect(self, gradient: Float32Vector, piece: slice, replacing: Indices) -> None:
        """Add what is sent of a piece to the entries."""
        selected, values = self._selected[piece], gradient[piece]
        if replacing.size:
            residual = self._residual[piece]
            selected[replacing] = True
            values = self._first[: selected.size]
            np.copyto(values, gradient[piece])
            values[replacing] = residual[replacing]
            residual[replacing] = 0.0
        self._entries.add(piece.start, selected.nonzero()[0], values)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """The residual, the hidden weights, the coordinates used last, the last loss, and the generator's state."""
        return {
            "residual": self._residual,
            "hidden": self._hidden,
            "selected": self._selected,
            "loss": np.array([self._loss], np.float64),
            "generator": generator_state(self._generator),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See `GradientSparsifier.restore`."""
        own = self.state()
        take_over(own, arrays)
        self._loss = float(own["loss"][0])
        set_generator(self._generator, own["generator"])
