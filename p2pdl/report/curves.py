"""Pictures of curves: loss and accuracy over steps, over time, and over the bytes received."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2pdl.report import words
from p2pdl.report.downsampling import downsampled, median_curve
from p2pdl.report.palette import DASHES, INK, SERIES, colour
from p2pdl.report.picture import Picture, drawing
from p2pdl.report.run import Column, Lines, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES: dict[str, tuple[Callable[[Lines], Column], str]] = {
    "steps": (lambda lines: lines.columns["step"], "steps of each node"),
    "time": (lambda lines: lines.training_seconds, "seconds of training"),
    "bytes": (lambda lines: 1e-6 * lines.columns["bytes_received"], "MB received by each node"),
}
"""What is drawn over: the figures, and the axis's label."""

POINTS = 6000
"""Points of all curves of a picture together."""

MOST_POINTS = 300
LEAST_POINTS = 40
"""Points of one curve."""

MOST_CURVES = 40
"""With more nodes than that, there is only the median of each run."""

MOST_RUNS = 24
"""So many runs have a curve of their own."""

TITLE_LENGTH = 24


def short(text: str) -> str:
    """A name that fits into a legend or beside an axis: its end, which tells it from others."""
    cut = text if len(text) <= TITLE_LENGTH else "…" + text[1 - TITLE_LENGTH :]
    # Between dollars stands a formula, and a name that begins with an underscore is left out of legends.
    return (" " + cut if cut.startswith("_") else cut).replace("$", r"\$")


def loss_of_lines(lines: Lines) -> Column:
    """The mean training loss since the line before; the smoothed one where that is not known."""
    columns = lines.columns
    return np.where(np.isnan(columns["train_loss"]), columns["smoothed_loss"], columns["train_loss"])


@dataclass(frozen=True)
class Subject:
    """What curves are drawn of.

    Attributes:
        name: Of the pictures' files, before what it is drawn over.
        label: Of the axis.
        values: The figure of each line; NaN where it is not known.
        of_node: What a point of one node's curve is.
        moments: Between what the caption tells of a change.
        may_span_decades: Whether its axis is logarithmic where the figures do.
    """

    name: str
    label: str
    values: Callable[[Lines], Column]
    of_node: str
    moments: str
    may_span_decades: bool


LOSS = Subject(
    "loss",
    "training loss",
    loss_of_lines,
    "the mean loss of its training batches between two lines of metrics.jsonl",
    "At the first and at the last line",
    may_span_decades=True,
)

ACCURACY = Subject(
    "accuracy",
    "test accuracy",
    lambda lines: lines.columns["test_accuracy"],
    "the test accuracy of its own weights while it trained",
    "At the first and at the last evaluation",
    may_span_decades=False,
)


def loss_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Loss over steps, time and bytes; without those for which there is no curve."""
    return _pictures(runs, LOSS)


def accuracy_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Test accuracy over steps, time and bytes; without those for which there is no curve."""
    return _pictures(runs, ACCURACY)


def _pictures(runs: Sequence[Run], subject: Subject) -> list[Picture]:
    return [picture for over in AXES if (picture := _picture(runs, subject, over)) is not None]


def _picture(runs: Sequence[Run], subject: Subject, over: str) -> Picture | None:
    places, label = AXES[over]
    title = f"{subject.name.capitalize()} over {over}"
    drawn = [
        (run, curves)
        for run in runs
        if (curves := _curves(run, places, subject.values)) and any(_is_curve(curve) for _, curve in curves)
    ][:MOST_RUNS]
    if not drawn:
        return None
    each = sum(len(curves) for _, curves in drawn) <= MOST_CURVES
    by_node = len(drawn) == 1 and len(drawn[0][1]) <= len(SERIES)
    number = sum(len(curves) for _, curves in drawn) if each else len(drawn)
    points = max(LEAST_POINTS, min(MOST_POINTS, POINTS // number))
    with drawing(legend=True) as (figure, axes):
        for place, (run, curves) in enumerate(drawn):
            if each:
                _draw_nodes(axes, curves, place, by_node, points)
            _draw_median(axes, run, curves, place, by_node, points)
        axes.set_xlabel(label)
        axes.set_ylabel(subject.label)
        axes.set_title(title)
        axes.set_xlim(left=0)
        if subject.may_span_decades and _spans_decades(drawn):
            axes.set_yscale("log")
    caption = _caption(drawn, subject, each, by_node)
    left_out = len(runs) - len(drawn)
    if left_out > 0:
        caption += f" {words.plural(left_out, 'run')} without such lines, or beyond {MOST_RUNS}, are not drawn."
    return Picture(f"{subject.name}-{over}", title, caption, figure)


Curve = tuple[Column, Column]


def _curves(run: Run, places: Callable[[Lines], Column], values: Callable[[Lines], Column]) -> list[tuple[str, Curve]]:
    """Of the nodes of which something is known."""
    found = [(node.name, (places(node.lines), values(node.lines))) for node in run.workers if len(node.lines)]
    return [(name, curve) for name, curve in found if not np.isnan(curve[1]).all()]


def _is_curve(curve: Curve) -> bool:
    x, y = curve
    known = x[~(np.isnan(x) | np.isnan(y))]
    return len(known) > 0 and float(known[-1]) > 0


def _draw_nodes(axes: Axes, curves: list[tuple[str, Curve]], place: int, by_node: bool, points: int) -> None:
    for number, (name, (x, y)) in enumerate(curves):
        x, y = downsampled(x, y, points)
        axes.plot(
            x,
            y,
            color=colour(number if by_node else place),
            linewidth=1.1 if by_node else 0.6,
            alpha=0.9 if by_node else 0.45,
            label=short(name) if by_node else None,
            marker="o" if len(x) < 3 else None,
            markersize=3,
        )


def _draw_median(axes: Axes, run: Run, curves: list[tuple[str, Curve]], place: int, by_node: bool, points: int) -> None:
    if by_node and len(curves) == 1:
        return
    x, y = median_curve([curve for _, curve in curves], min(points, 150))
    if by_node:
        if len(x):
            axes.plot(x, y, color=INK, linewidth=1.8, linestyle=(0, (4, 1.2)), label="median")
        return
    axes.plot(
        x,
        y,
        color=colour(place),
        linewidth=2.0,
        linestyle=DASHES[place // len(SERIES) % len(DASHES)],
        label=short(run.title),
    )


def _spans_decades(drawn: Sequence[tuple[Run, list[tuple[str, Curve]]]]) -> bool:
    values = np.concatenate([y for _, curves in drawn for _, (_, y) in curves])
    values = values[~np.isnan(values)]
    return bool(len(values) and values.min() > 0 and values.max() > 10 * values.min())


def _caption(drawn: Sequence[tuple[Run, list[tuple[str, Curve]]]], subject: Subject, each: bool, by_node: bool) -> str:
    if by_node and len(drawn[0][1]) == 1:
        who = f"{subject.of_node[0].upper()}{subject.of_node[1:]}."
    elif by_node:
        who = f"One line per node: {subject.of_node}. Dashed, their median."
    elif each:
        who = "One colour per run: thin lines are its nodes, the thick one their median."
    else:
        who = "One line per run: the median of its nodes."
    extremes = []
    for run, curves in drawn[:4]:
        ends = [(y[~np.isnan(y)][0], y[~np.isnan(y)][-1]) for _, (_, y) in curves if (~np.isnan(y)).any()]
        if ends:
            first, last = np.median(np.array(ends), axis=0)
            name = f"{run.title}: " if len(drawn) > 1 else ""
            extremes.append(f"{name}from {words.decimals(float(first), 3)} to {words.decimals(float(last), 3)}")
    return f"{who} {subject.moments}: {'; '.join(extremes)}." if extremes else who
