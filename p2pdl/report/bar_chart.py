"""Draws bars side by side, from left to right; somebody else's are hollow and hatched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pdl.report import words
from p2pdl.report.canvas import LABEL_LETTER, LEGEND_LETTER, Room, Values, canvas, drawable, make_logarithmic
from p2pdl.report.chart import BarChart
from p2pdl.report.labels import folded, letters, published_name
from p2pdl.report.palette import INK, SERIES, colour
from p2pdl.report.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SERIES = len(SERIES)
MOST_BARS = 96
"""Beyond that the last series or groups are not drawn."""

MOST_FIGURES = 40
"""With more bars than that, no figures stand at their ends."""

BAR_INCHES, GAP_INCHES = 0.155, 0.1
"""How thick a bar is, and what is left between two groups."""

LONGEST_GROUP = 26
LONGEST_ENTRY = 44
"""Letters of a line beside a group, and of a series in the legend."""


def bar_picture(chart: BarChart, name: str, room: Room) -> Picture | None:
    """The chart as a picture; None if there is nothing that can be drawn.

    Args:
        chart: What to draw.
        name: Of its file.
        room: How wide it is; as high as its bars need.
    """
    shown = chart.series[:MOST_SERIES]
    groups = chart.groups[: max(1, MOST_BARS // max(1, len(shown)))]
    found = [drawable(np.array(bars.values[: len(groups)], float), chart.log) for bars in shown]
    every = np.concatenate([values[~np.isnan(values)] for values in found]) if found else np.empty(0)
    if not len(every):
        return None
    level = drawable(np.array([chart.level], float), chart.log)[0]
    labels = [folded(group, LONGEST_GROUP, 2) for group in groups]
    beside = LABEL_LETTER * max(letters(line) for lines in labels for line in lines or [""])
    pitch = max(BAR_INCHES * len(shown) + GAP_INCHES, 0.14 * max(map(len, labels)) + 0.04)
    sized = Room(room.width, max(0.5, pitch * len(groups)))
    with canvas(chart.title, chart.y, "", sized, left=beside) as (figure, axes):
        thickness = BAR_INCHES / pitch
        for number, (bars, values) in enumerate(zip(shown, found, strict=True)):
            places = np.arange(len(groups), dtype=np.float64) + thickness * (number - (len(shown) - 1) / 2)
            drawn = ~np.isnan(values)
            if not drawn.any():
                # Its entry in the legend would have the colour of another one.
                continue
            is_hollow = bars.published
            axes.barh(
                *(places[drawn], values[drawn], 0.86 * thickness),
                facecolor="none" if is_hollow else colour(number),
                edgecolor=colour(number),
                linewidth=1.0 if is_hollow else 0.0,
                hatch="////" if is_hollow else None,
                label=published_name(bars.name, is_hollow, LONGEST_ENTRY),
            )
            if len(every) <= MOST_FIGURES:
                _figures(axes, places[drawn], values[drawn])
        axes.set_yticks(range(len(groups)), ["\n".join(lines) for lines in labels])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.grid(False, axis="y")
        span = np.append(every, level) if not np.isnan(level) else every
        taken = 0.25 + LEGEND_LETTER * max(len(words.significant(value, 4)) for value in every)
        _limits(axes, span, chart.log, min(0.4, taken / (room.width - beside - 0.3)))
        if not np.isnan(level):
            axes.axvline(level, color=INK, linewidth=0.8)
            text = words.significant(level, 4)
            axes.text(level, 1.0, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", size=7)
    return Picture(name, chart.title, _caption(chart, len(shown), len(groups)), figure)


def _figures(axes: Axes, places: NDArray[np.floating], values: Values) -> None:
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            words.significant(value, 4),
            (value, place),
            xytext=(-3 if value < 0 else 3, 0),
            textcoords="offset points",
            ha="right" if value < 0 else "left",
            va="center_baseline",
            size=7,
        )


def _limits(axes: Axes, values: Values, is_logarithmic: bool, room: float) -> None:
    """Bars begin at 0, or below the least where there is no 0; `room` is the share that figures at their ends take."""
    low, high = float(values.min()), float(values.max())
    if is_logarithmic:
        least = low / max(2.0, (high / low) ** 0.15)
        make_logarithmic(axes, "x", least, least * (high / least) ** (1 / (1 - room)))
        return
    low, high = min(low, 0.0), max(high, 0.0)
    length = (high - low) / (1 - room * ((low < 0) + (high > 0))) or 1.0
    axes.set_xlim(low - room * length * (low < 0), high + room * length * (high > 0 or low == 0))


def _caption(chart: BarChart, series: int, groups: int) -> str:
    parts = [chart.caption]
    given = [value for bars in chart.series[:series] for value in bars.values[:groups] if value is not None]
    wrong = int(np.isnan(drawable(np.array(given, float), chart.log)).sum())
    if wrong:
        reason = "not positive or not finite" if chart.log else "not finite"
        parts.append(f"Not drawn: {words.plural(wrong, 'bar')}, {reason}.")
    if len(chart.series) > series:
        parts.append(f"Not drawn: {len(chart.series) - series} more series.")
    if len(chart.groups) > groups:
        parts.append(f"The first {groups} groups of {len(chart.groups)}.")
    return " ".join(parts)
