"""Draws how often what values occur: the same bins for all series, shares of each, its median and 90th percentile."""

from __future__ import annotations

import numpy as np

from p2pdl.report import words
from p2pdl.report.canvas import MOST_SERIES, Room, Values, canvas, drawable, make_logarithmic
from p2pdl.report.chart import Histogram
from p2pdl.report.labels import fitted
from p2pdl.report.palette import DASHES, SERIES, colour
from p2pdl.report.picture import Picture

BINS = 40

FAR = 3.0
"""If the greatest value lies so many times farther out than nearly all, the last bin holds all that is beyond."""

NEARLY_ALL = 0.995

LONGEST_ENTRY = 32
"""Letters of a series in the legend, where its figures stand as well."""


def histogram_picture(chart: Histogram, name: str, room: Room) -> Picture | None:
    """The chart as a picture; None if there is nothing that can be drawn.

    Args:
        chart: What to draw.
        name: Of its file.
        room: How much room there is.
    """
    shown = chart.series[:MOST_SERIES]
    found = [drawable(np.array(one.values, float), chart.log) for one in shown]
    drawn = [
        (place, one.name, values[~np.isnan(values)])
        for place, (one, values) in enumerate(zip(shown, found, strict=True))
    ]
    drawn = [(place, title, values) for place, title, values in drawn if len(values)]
    if not drawn:
        return None
    edges, is_cut = shared_edges([values for _, _, values in drawn], chart.log)
    with canvas(chart.title, chart.x, "% of each", room) as (figure, axes):
        for place, title, values in drawn:
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            middle, high = np.quantile(values, (0.5, 0.9))
            entry = f"{fitted(title, LONGEST_ENTRY)}: median {words.significant(middle)}, p90 {words.significant(high)}"
            dash = DASHES[place // len(SERIES) % len(DASHES)]
            shares = 100 * counts / len(values)
            if len(drawn) <= 2:
                axes.stairs(shares, edges, fill=True, color=colour(place), alpha=0.22)
            axes.stairs(shares, edges, color=colour(place), linewidth=1.5, linestyle=dash, label=entry)
            axes.axvline(min(middle, edges[-1]), color=colour(place), linewidth=0.9)
            axes.axvline(min(high, edges[-1]), color=colour(place), linewidth=0.9, linestyle=(0, (1.5, 1.5)))
        axes.margins(x=0.02)
        axes.set_ylim(bottom=0)
        if chart.log:
            make_logarithmic(axes, "x", float(edges[0]), float(edges[-1]))
    return Picture(name, chart.title, _caption(chart, found, is_cut), figure)


def shared_edges(samples: list[Values], is_logarithmic: bool) -> tuple[Values, bool]:
    """The edges of bins that suit all series.

    Args:
        samples: Finite values, some of each; positive if the bins are logarithmic.
        is_logarithmic: Whether bins are equally wide by their logarithms.

    Returns:
        The edges, shape (BINS + 1,), and whether values beyond the last are to be counted in the last bin.
    """
    low, high = min(values.min() for values in samples), max(values.max() for values in samples)
    if is_logarithmic:
        edge = max(high, low * 1.01)
        return np.geomspace(low, edge, BINS + 1), False
    nearly = max(np.quantile(values, NEARLY_ALL) for values in samples)
    is_cut = bool(nearly > low and high - low > FAR * (nearly - low))
    edge = nearly if is_cut else high
    if edge - low <= 1e-9 * max(abs(low), abs(edge)):
        # All are equal, or so close together that bins between them could not be told apart.
        low, edge = low - 0.01 * abs(low) - 1e-9, edge + 0.01 * abs(edge) + 1e-9
    return np.linspace(low, edge, BINS + 1), is_cut


def _caption(chart: Histogram, found: list[Values], is_cut: bool) -> str:
    parts = [chart.caption, "Of each series, a line at the median, and a dotted one at the 90th percentile."]
    if is_cut:
        parts.append("The last bin holds all that is beyond it.")
    wrong = sum(int(np.isnan(values).sum()) for values in found)
    if wrong:
        parts.append(f"Not drawn: {words.plural(wrong, 'value')}, not {'positive or not ' if chart.log else ''}finite.")
    if len(chart.series) > MOST_SERIES:
        parts.append(f"Not drawn: {len(chart.series) - MOST_SERIES} more series.")
    return " ".join(parts)
