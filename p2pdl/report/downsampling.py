"""Fewer points of a long curve, so that its peaks and its ends stay."""

from __future__ import annotations

import numpy as np

from p2pdl.report.run import Column


def downsampled(x: Column, y: Column, points: int) -> tuple[Column, Column]:
    """At most so many points of a curve: of each part of equal length the least and the greatest, and both ends.

    Args:
        x: Ascending, shape (n,); NaN where it is not known.
        y: Shape (n,); NaN where it is not known.
        points: At least 4.

    Returns:
        Points of the curve in their order, without those that are not known.
    """
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) <= points:
        return x, y
    inner = y[1:-1]
    edges = np.linspace(0, len(inner), (points - 2) // 2 + 1).astype(int)
    kept = {0, len(y) - 1}
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        part = inner[begin:end]
        kept |= {1 + begin + int(np.argmin(part)), 1 + begin + int(np.argmax(part))}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]


def median_curve(curves: list[tuple[Column, Column]], points: int) -> tuple[Column, Column]:
    """The median of some curves, at places where all of them are known.

    Args:
        curves: x and y of each; x ascends.
        points: How many places.

    Returns:
        x and y, shape (points,); empty if there is no place that all curves share.
    """
    known = [(x[~(np.isnan(x) | np.isnan(y))], y[~(np.isnan(x) | np.isnan(y))]) for x, y in curves]
    known = [(x, y) for x, y in known if len(x)]
    if not known:
        return np.empty(0), np.empty(0)
    begin, end = max(x[0] for x, _ in known), min(x[-1] for x, _ in known)
    if begin >= end:
        return np.empty(0), np.empty(0)
    places = np.linspace(begin, end, points)
    return places, np.median([np.interp(places, x, y) for x, y in known], axis=0)
