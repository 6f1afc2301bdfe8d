"""Axes whose margins are reckoned from the lengths of texts, which is several times faster than solving a layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pdl.report.labels import columns_that_fit, folded, letters
from p2pdl.report.palette import DASHES, SERIES
from p2pdl.report.picture import HEIGHT_INCHES, LEGEND_ROW_INCHES, STYLE, WIDTH_INCHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Values = NDArray[np.float64]
"""Figures to draw, shape (n,); NaN where there is none."""

QUIET: dict[Any, Any] = {
    **STYLE,
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
    "hatch.linewidth": 0.6,
    "xtick.bottom": False,
    "ytick.left": False,
}
"""The style of the report where texts are of others: a dollar is a dollar."""

TITLE_LETTER, LABEL_LETTER, LEGEND_LETTER = 0.083, 0.075, 0.066
"""Inches of a letter of a title, of a label, and of a legend, about."""

TITLE_LINE, LABEL_LINE = 0.175, 0.15
"""Inches of their lines."""

EDGE = 0.06
"""Inches between the texts and the picture's edge."""

MOST_SERIES = len(DASHES) * len(SERIES)
"""So many can be told apart."""

STEPS = (1, 2, 2.5, 5, 10)
"""Between two ticks, times a power of ten."""

GREATEST = 1e100
"""What is beyond, or nearer to 0 than its inverse, is no figure that anybody could read off."""


@dataclass(frozen=True)
class Room:
    """How much room a picture has.

    Attributes:
        width: In inches, with all that stands around the axes.
        height: In inches, of the axes alone.
    """

    width: float = WIDTH_INCHES
    height: float = HEIGHT_INCHES - 0.8


TELEPHONE = Room()
SCREEN = Room(10.0, 3.3)
"""As wide as a telephone, and as a screen."""


@contextmanager
def canvas(
    title: str, x: str, y: str, room: Room, left: float | None = None, right: float = 0.2
) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes; around what is drawn into them, room is made for titles, labels and the legend.

    Args:
        title: Above.
        x: The label below.
        y: The label to the left; there is none if it is empty.
        room: How much room there is.
        left: Inches that what stands beside the axes takes; None to reckon it from the ticks.
        right: The same at the other side.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context(QUIET):
        figure = Figure(figsize=(room.width, room.height))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        # Ticks are most of the work of a drawing.
        axes.xaxis.set_major_locator(MaxNLocator(int(1.2 * room.width), steps=STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(int(2.1 * room.height), steps=STEPS))
        yield figure, axes
        above = folded(title, int((room.width - 2 * EDGE) / TITLE_LETTER), 3)
        beside = folded(y, int(room.height / LABEL_LETTER), 2)
        begin = 3 * EDGE + LABEL_LINE * len(beside) + (_ticks_inches(axes.yaxis) if left is None else left)
        below = folded(x, int((room.width - begin) / LABEL_LETTER), 2)
        handles, found = axes.get_legend_handles_labels()
        names = [str(name) for name in found]
        columns = columns_that_fit(names, int(room.width / LEGEND_LETTER)) if names else 1
        legend = LEGEND_ROW_INCHES * -(-len(names) // columns) + (0.06 if names else 0.0)
        bottom = EDGE + 0.23 + LABEL_LINE * len(below) + legend
        height = bottom + room.height + TITLE_LINE * len(above) + 3 * EDGE
        figure.set_size_inches(room.width, height)
        axes.set_position(
            (begin / room.width, bottom / height, (room.width - begin - right) / room.width, room.height / height)
        )
        axes.set_xlabel("\n".join(below), labelpad=4)
        middle = (bottom + room.height / 2) / height
        figure.text(
            EDGE / room.width, middle, "\n".join(beside), rotation=90, va="center", multialignment="center", size=8.5
        )
        figure.text(EDGE / room.width, 1 - EDGE / height, "\n".join(above), va="top", size=9.5, weight="bold")
        if names:
            figure.legend(handles, names, loc="lower center", ncols=columns, borderaxespad=0.3, columnspacing=1.4)


def _ticks_inches(axis: Axis) -> float:
    """How wide the widest number beside an axis is."""
    texts = axis.get_major_formatter().format_ticks(list(axis.get_major_locator()()))
    return LABEL_LETTER * max((letters(text) for text in texts), default=0)


def drawable(values: Values, is_logarithmic: bool) -> Values:
    """The same, with NaN for what cannot be drawn: what is not finite, not positive on such an axis, or beyond all
    measure."""
    with np.errstate(invalid="ignore"):
        size = np.abs(values)
        fits = (size < GREATEST) & ((size > 1 / GREATEST) | (values == 0))
        return np.where(fits & ((values > 0) | (not is_logarithmic)), values, np.nan)


def make_logarithmic(axes: Axes, name: str, low: float, high: float) -> None:
    """Make an axis logarithmic, with numbers that can be read even where it spans no decade.

    Args:
        axes: Of which.
        name: `x` or `y`.
        low: Where it begins; positive.
        high: Where it ends.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    set_limits, set_scale, axis = (
        (axes.set_xlim, axes.set_xscale, axes.xaxis) if name == "x" else (axes.set_ylim, axes.set_yscale, axes.yaxis)
    )
    set_limits(low, high)
    # Bars begin at 0, which is then at the edge.
    set_scale("log", nonpositive="clip")
    decades = np.log10(high / low)
    if decades < 0.8:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))


def _power(value: float) -> str:
    return f"{value:g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
