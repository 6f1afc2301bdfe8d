"""Draws curves and clouds of points; somebody else's are dashed, with hollow marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pdl.report import words
from p2pdl.report.canvas import LEGEND_LETTER, MOST_SERIES, Room, Values, canvas, drawable, make_logarithmic
from p2pdl.report.chart import LineChart, Series
from p2pdl.report.downsampling import downsampled
from p2pdl.report.labels import published_name
from p2pdl.report.palette import DASHES, INK, PAPER, SERIES, colour
from p2pdl.report.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PUBLISHED_DASH = (0, (5, 2))

MARKS = 12
"""So many marks of a published curve of many points."""

FEW = 60
"""Curves of more points are thinner, as they go up and down more."""

LONGEST_ENTRY = 44
"""Letters of a series in the legend."""

Points = tuple[Values, Values]


def line_picture(chart: LineChart, name: str, room: Room, points: int) -> Picture | None:
    """The chart as a picture; None if there is nothing that can be drawn.

    Args:
        chart: What to draw.
        name: Of its file.
        room: How much room there is.
        points: So many of each series at most, at least 4.
    """
    shown = chart.series[:MOST_SERIES]
    found = [
        (drawable(np.array(one.x, float), chart.log_x), drawable(np.array(one.y, float), chart.log_y)) for one in shown
    ]
    known = [~(np.isnan(x) | np.isnan(y)) for x, y in found]
    if not any(mask.any() for mask in known):
        return None
    every_x = np.concatenate([x[mask] for (x, _), mask in zip(found, known, strict=True)])
    every_y = np.concatenate([y[mask] for (_, y), mask in zip(found, known, strict=True)])
    level = drawable(np.array([chart.level], float), chart.log_y)[0]
    if not np.isnan(level):
        every_y = np.append(every_y, level)
    with canvas(chart.title, chart.x, chart.y, room, right=_level_inches(level)) as (figure, axes):
        for place, (one, curve) in enumerate(zip(shown, found, strict=True)):
            _draw(axes, one, curve, place, chart.points, points)
        if not np.isnan(level):
            axes.axhline(level, color=INK, linewidth=0.8, zorder=1.5)
            axes.text(1.01, level, _level(level), transform=axes.get_yaxis_transform(), va="center", size=7.5)
        axes.margins(x=0.03, y=0.06)
        if chart.log_x:
            make_logarithmic(axes, "x", *_limits(every_x))
        if chart.log_y:
            make_logarithmic(axes, "y", *_limits(every_y))
    return Picture(name, chart.title, _caption(chart, found), figure)


def _limits(values: Values) -> tuple[float, float]:
    """Where a logarithmic axis begins and ends, so that nothing touches its ends."""
    low, high = float(values.min()), float(values.max())
    margin = max(1.02, (high / low) ** 0.05)
    return low / margin, high * margin


def _level(level: float) -> str:
    return words.significant(level, 4)


def _level_inches(level: float) -> float:
    return 0.2 if np.isnan(level) else 0.15 + LEGEND_LETTER * len(_level(level))


def _draw(axes: Axes, series: Series, curve: Points, place: int, is_marked: bool, points: int) -> None:
    is_cloud = bool((np.diff(curve[0][~np.isnan(curve[0])]) < 0).any())
    x, y = _every_nth(curve, points) if is_cloud else thinned(*curve, points)
    alone = _alone(y)
    mark = "o" if is_marked or is_cloud or series.published or len(y) < 3 else None
    label = published_name(series.name, series.published, LONGEST_ENTRY)
    dash = PUBLISHED_DASH if series.published else DASHES[place // len(SERIES) % len(DASHES)]
    axes.plot(
        *(x, y),
        color=colour(place),
        linewidth=1.5 if len(x) <= FEW else 1.1,
        linestyle="none" if is_cloud else dash,
        marker=mark,
        markersize=4 if series.published else 3.5,
        markerfacecolor=PAPER if series.published else colour(place),
        markeredgewidth=1.1 if series.published else 0,
        markevery=1 if is_marked or is_cloud else max(1, len(x) // MARKS),
        alpha=0.7 if is_cloud else None,
        label=label,
    )
    if mark is None and alone.any():
        axes.plot(x[alone], y[alone], color=colour(place), linestyle="none", marker="o", markersize=2)


def _every_nth(curve: Points, points: int) -> Points:
    x, y = curve
    step = -(-len(x) // points)
    return x[::step], y[::step]


def _alone(y: Values) -> NDArray[np.bool_]:
    """Points without a neighbour, which a line does not show."""
    known = ~np.isnan(y)
    left = np.append(False, known[:-1])[: len(y)]
    right = np.append(known[1:], False)[: len(y)]
    alone: NDArray[np.bool_] = known & ~left & ~right
    return alone


def thinned(x: Values, y: Values, points: int) -> Points:
    """Fewer points of a curve with gaps, which stay: each is one NaN.

    Args:
        x: Ascending, shape (n,).
        y: Shape (n,); NaN where the curve is broken.
        points: So many, and one more for each gap; at least 4.
    """
    known = ~(np.isnan(x) | np.isnan(y))
    starts = np.flatnonzero(known & ~np.append(False, known[:-1])[: len(known)])
    ends = 1 + np.flatnonzero(known & ~np.append(known[1:], False)[: len(known)])
    # More gaps than points: only the longest parts can be seen.
    longest = np.sort(np.argsort(starts - ends, kind="stable")[: max(1, points // 2)])
    pieces = list(zip(starts[longest], ends[longest], strict=True))
    whole = sum(end - start for start, end in pieces)
    parts: list[Points] = []
    for start, end in pieces:
        share = max(4, int(points * (end - start) / whole))
        parts += [(np.array([np.nan]), np.array([np.nan]))] if parts else []
        parts.append(downsampled(x[start:end], y[start:end], share))
    if not parts:
        return np.empty(0), np.empty(0)
    return np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts])


def _caption(chart: LineChart, found: list[Points]) -> str:
    """What the chart's says, and what of it is not drawn."""
    given = sum(value is not None for one in chart.series[:MOST_SERIES] for value in one.y)
    drawn = sum(int((~(np.isnan(x) | np.isnan(y))).sum()) for x, y in found)
    parts = [chart.caption]
    if given > drawn:
        reason = "not positive or not finite" if chart.log_x or chart.log_y else "not finite"
        parts.append(f"Not drawn: {words.plural(given - drawn, 'point')}, {reason}.")
    if len(chart.series) > MOST_SERIES:
        parts.append(f"Not drawn: {len(chart.series) - MOST_SERIES} more series.")
    return " ".join(parts)
