"""Where the trained entries lie, and the pieces in which vectors are gone through."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from p2pdl.spec import WeightSpec
from p2pdl.types import Indices

PIECE = 1 << 16
"""Elements worked on at a time: 256 KiB, so that several passes over a piece find it in the cache of one core."""


def variable_spans(spec: WeightSpec) -> tuple[slice, ...]:
    """The elements of each trained variable, in order; empty ones are left out."""
    return tuple(variable.span for variable in spec.variables if variable.trainable and variable.size)


def trained_spans(spec: WeightSpec) -> tuple[slice, ...]:
    """All trained elements in as few spans as there can be, in order."""
    spans: list[slice] = []
    for span in variable_spans(spec):
        if spans and spans[-1].stop == span.start:
            span = slice(spans.pop().start, span.stop)
        spans.append(span)
    return tuple(spans)


def untrained_indices(spec: WeightSpec) -> Indices:
    """Padding and what is not trained: never sent."""
    untrained = np.ones(spec.size, np.bool_)
    for span in variable_spans(spec):
        untrained[span] = False
    return np.flatnonzero(untrained)


def entries_in(spans: Iterable[slice]) -> int:
    """Elements of all the spans."""
    return sum(span.stop - span.start for span in spans)


def pieces(spans: Iterable[slice]) -> tuple[slice, ...]:
    """The spans cut into pieces of `PIECE` elements at most."""
    return tuple(
        slice(start, min(start + PIECE, span.stop)) for span in spans for start in range(span.start, span.stop, PIECE)
    )
