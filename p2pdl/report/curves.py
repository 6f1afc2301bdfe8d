"""Pictures of curves: the loss over steps, over time, and over the bytes received."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from p2pdl.report import words
from p2pdl.report.downsampling import downsampled, median_curve
from p2pdl.report.palette import DASHES, INK, SERIES, colour
from p2pdl.report.picture import Picture, drawing
from p2pdl.report.run import Column, NodeRun, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "steps": ("step", 1.0, "steps of each node"),
    "time": ("seconds", 1.0, "seconds of training"),
    "bytes": ("bytes_received", 1e-6, "MB received by each node"),
}
"""What loss is drawn over: the figure, its factor, and the axis's label."""

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


def loss_of_lines(node: NodeRun) -> Column:
    """The mean training loss since the line before; the smoothed one where that is not known."""
    columns = node.lines.columns
    return np.where(np.isnan(columns["train_loss"]), columns["smoothed_loss"], columns["train_loss"])


def loss_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Loss over steps, time and bytes; without those for which there is no curve."""
    return [picture for over in AXES if (picture := _loss_picture(runs, over)) is not None]


def _loss_picture(runs: Sequence[Run], over: str) -> Picture | None:
    figure_name, factor, label = AXES[over]
    drawn = [
        (run, curves)
        for run in runs
        if (curves := _curves(run, figure_name, factor)) and any(_is_curve(curve) for _, curve in curves)
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
        axes.set_ylabel("training loss")
        axes.set_title(f"Loss over {over}")
        axes.set_xlim(left=0)
        if _spans_decades(drawn):
            axes.set_yscale("log")
    caption = _caption(drawn, over, each, by_node)
    left_out = len(runs) - len(drawn)
    if left_out > 0:
        caption += f" {words.plural(left_out, 'run')} without such lines, or beyond {MOST_RUNS}, are not drawn."
    return Picture(f"loss-{over}", f"Loss over {over}", caption, figure)


Curve = tuple[Column, Column]


def _curves(run: Run, figure_name: str, factor: float) -> list[tuple[str, Curve]]:
    return [
        (node.name, (factor * node.lines.columns[figure_name], loss_of_lines(node)))
        for node in run.workers
        if len(node.lines)
    ]


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
    losses = np.concatenate([y for _, curves in drawn for _, (_, y) in curves])
    losses = losses[~np.isnan(losses)]
    return bool(len(losses) and losses.min() > 0 and losses.max() > 10 * losses.min())


def _caption(drawn: Sequence[tuple[Run, list[tuple[str, Curve]]]], over: str, each: bool, by_node: bool) -> str:
    if by_node and len(drawn[0][1]) == 1:
        who = "The mean loss of the training batches between two lines of metrics.jsonl."
    elif by_node:
        who = (
            "One line per node: the mean loss of its training batches between two lines of metrics.jsonl; "
            "dashed, their median."
        )
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
    return f"{who} At the first and at the last line: {'; '.join(extremes)}." if extremes else who
