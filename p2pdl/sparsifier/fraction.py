"""A fraction of the entries, those of the greatest magnitude, of the whole model or of each variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from p2pdl.codec.greatest import TINY, greatest, lower_bound
from p2pdl.sparsifier.comparison import Comparison
from p2pdl.sparsifier.contract import Selection
from p2pdl.sparsifier.entries import Entries
from p2pdl.sparsifier.residual import Residual
from p2pdl.sparsifier.sampling import stride_for
from p2pdl.sparsifier.spans import entries_in, pieces
from p2pdl.types import Float32Vector

_ROOTS = 4
"""The sample is four times the square root of the entries: 4,000 of 930,000 and 18,000 of 20 million. Each costs a line
of memory that is not in the cache; the more there are, the fewer entries have to be put in order."""


def require_fraction(fraction: float) -> None:
    """Check a fraction.

    Raises:
        ValueError: It is not above 0 and 1 at most.
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"the fraction must be above 0 and at most 1, not {fraction}")


@dataclass(frozen=True, slots=True)
class _Unit:
    """Entries that are compared with each other, and how many of them are sent."""

    spans: tuple[slice, ...]
    pieces: tuple[slice, ...]
    entries: int
    count: int
    stride: int


class GreatestFraction:
    """Selects ceil(fraction * entries) of each unit; fewer where fewer differ from zero.

    Args:
        size: Elements of the vector.
        units: The spans of each unit, all in order.
        fraction: Share of the entries of a unit, above 0, 1 at most.
        residual: Whether what is not sent is added to the next gradient.
    """

    def __init__(self, size: int, units: Sequence[tuple[slice, ...]], fraction: float, residual: bool) -> None:
        self.residual = Residual(size, residual)
        self._units = [
            _Unit(spans, pieces(spans), entries, ceil(fraction * entries), stride_for(entries, _ROOTS))
            for spans in units
            for entries in [entries_in(spans)]
        ]
        self._entries = Entries(size)
        self._comparison = Comparison()

    @np.errstate(over="ignore", invalid="ignore")
    def select(self, gradient: Float32Vector) -> Selection:
        """The entries to send of a gradient that has been admitted."""
        self._entries.cut(0)
        for unit in self._units:
            self._select(gradient, unit)
        selection = self._entries.selection()
        if selection.indices is not None:
            self.residual.sent(selection.indices)
        return selection

    def _select(self, gradient: Float32Vector, unit: _Unit) -> None:
        begin = self._entries.count
        bound = self._bound(gradient, unit)
        for piece in unit.pieces:
            values, magnitudes = self.residual.add(gradient, piece)
            self._entries.add(piece.start, self._comparison.at_least(magnitudes, bound), values)
        if self._entries.count - begin < unit.count and bound > TINY:
            # The sample misled.
            self._entries.cut(begin)
            waiting = self.residual.waiting(gradient)
            for piece in unit.pieces:
                self._entries.add(piece.start, np.flatnonzero(waiting[piece]), waiting[piece])
        if self._entries.count - begin > unit.count:
            self._entries.keep(begin, greatest(np.abs(self._entries.since(begin)), unit.count))

    def _bound(self, gradient: Float32Vector, unit: _Unit) -> np.float32:
        """What the entries to send reach nearly always."""
        if unit.stride == 1:
            return TINY
        sampled = [slice(span.start, span.stop, unit.stride) for span in unit.spans]
        sample = np.abs(np.concatenate([self.residual.peek(gradient, span) for span in sampled]))
        return lower_bound(sample, unit.count * sample.size / unit.entries)
