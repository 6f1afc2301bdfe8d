"""Pictures of amounts: accuracy, the length of steps, where the time goes, traffic, and who merged from whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from p2pdl.report import words
from p2pdl.report.curves import MOST_RUNS, short
from p2pdl.report.palette import DASHES, GRID, INK, PAPER, SERIES, colour
from p2pdl.report.picture import Picture, drawing
from p2pdl.report.run import NodeRun, Run
from p2pdl.report.statistics import (
    PHASES,
    accuracy_after,
    accuracy_before,
    median,
    merge_matrix,
    phase_seconds,
    step_times,
    weighted_quantile,
)

MOST_BARS = 24
"""With more nodes than that, there is one bar for each run: the mean of its nodes."""

MOST_CELLS = 24
"""Nodes of a matrix; beyond, the first ones."""

MOST_MATRICES = 8

BINS = 40

Amounts = dict[str, float]


def amount_bars(
    runs: Sequence[Run], amounts: Callable[[NodeRun], Amounts | None]
) -> tuple[list[str], list[Amounts], bool]:
    """One bar for each node; with too many, one for each run.

    Args:
        runs: The runs.
        amounts: The parts of a node's bar; None if it has none.

    Returns:
        The bars' labels, their parts, and whether they are of nodes.
    """
    found = [(run, [(node, parts) for node in run.nodes if (parts := amounts(node)) is not None]) for run in runs]
    found = [(run, nodes) for run, nodes in found if nodes]
    if sum(len(nodes) for _, nodes in found) <= MOST_BARS:
        several = len(runs) > 1
        labels = [
            short(f"{run.title}: {node.name}" if several else node.name) for run, nodes in found for node, _ in nodes
        ]
        return labels, [parts for _, nodes in found for _, parts in nodes], True
    means = [
        {name: float(np.mean([parts.get(name, 0.0) for _, parts in nodes])) for name in nodes[0][1]}
        for _, nodes in found[:MOST_BARS]
    ]
    return [short(run.title) for run, _ in found[:MOST_BARS]], means, False


def _height(bars: int) -> float:
    return 0.9 + 0.2 * max(bars, 3)


def accuracy_picture(runs: Sequence[Run]) -> Picture | None:
    """Test accuracy at the end, before and after the final merge."""

    def amounts(node: NodeRun) -> Amounts | None:
        before, after = accuracy_before(node), accuracy_after(node)
        known = {"before the final merge": before, "after it": after}
        return {name: value for name, value in known.items() if value is not None} or None

    labels, bars, of_nodes = amount_bars(runs, amounts)
    if not bars:
        return None
    with drawing(height=_height(len(bars)), legend=True) as (figure, axes):
        places = np.arange(len(bars))
        for name, marker, number in (("before the final merge", "o", 1), ("after it", "D", 0)):
            shown = [(place, bar[name]) for place, bar in zip(places, bars, strict=True) if name in bar]
            if shown:
                axes.plot(
                    [value for _, value in shown],
                    [place for place, _ in shown],
                    marker,
                    color=colour(number),
                    markersize=5,
                    label=name,
                    markerfacecolor=PAPER if number else colour(number),
                )
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.08)
        axes.set_xlabel("test accuracy")
        axes.set_title("Accuracy at the end")
    values = [value for bar in bars for value in bar.values()]
    caption = (
        f"Test accuracy of each {'node' if of_nodes else 'run, the mean of its nodes'}, from "
        f"{min(values):.4f} to {max(values):.4f}. The axis does not begin at 0."
    )
    return Picture("accuracy", "Accuracy at the end", caption, figure)


def step_picture(runs: Sequence[Run]) -> Picture | None:
    """How long the steps took, as a histogram for each run."""
    found = []
    for run in runs[:MOST_RUNS]:
        times = [step_times(node) for node in run.workers]
        values = np.concatenate([value for value, _ in times]) if times else np.empty(0)
        weights = np.concatenate([weight for _, weight in times]) if times else np.empty(0)
        if len(values):
            found.append((run, 1e3 * values, weights))
    if not found:
        return None
    every = np.concatenate([values for _, values, _ in found])
    low = max(float(every.min()), 1e-3)
    high = max(float(np.quantile(every, 0.995)), low * 1.01)
    is_wide = high > 20 * low
    edges = np.geomspace(low, high, BINS + 1) if is_wide else np.linspace(low, high, BINS + 1)
    with drawing(legend=len(found) > 1) as (figure, axes):
        for place, (run, values, weights) in enumerate(found):
            counts, _ = np.histogram(np.clip(values, low, high), edges, weights=weights)
            shares = 100 * counts / counts.sum()
            if len(found) == 1:
                axes.stairs(shares, edges, fill=True, color=colour(0), alpha=0.75, label=short(run.title))
            else:
                dash = DASHES[place // len(SERIES) % len(DASHES)]
                axes.stairs(shares, edges, color=colour(place), linewidth=1.5, linestyle=dash, label=short(run.title))
        if is_wide:
            axes.set_xscale("log")
        axes.set_xlabel("ms per batch, exchange included")
        axes.set_ylabel("% of batches")
        axes.set_title("Time per batch")
    exact = [len(node.step_seconds) > 0 for run, *_ in found for node in run.workers if len(node.lines)]
    means = "means between two lines of metrics.jsonl, which are narrower than single steps"
    if all(exact):
        source = "each step by itself, out of timeline.json"
    elif any(exact):
        source = f"each step by itself where there is a timeline.json, elsewhere {means}"
    else:
        source = f"{means} (train.profile: true records each step)"
    middles = ", ".join(
        f"{run.title + ' ' if len(found) > 1 else ''}{words.decimals(weighted_quantile(values, weights, 0.5), 1)} ms"
        for run, values, weights in found[:4]
    )
    caption = f"How long a batch took: {source}. Median: {middles}. The slowest half percent is in the last bar."
    return Picture("step-time", "Time per batch", caption, figure)


def phase_picture(runs: Sequence[Run]) -> Picture | None:
    """Where the time went, in percent of each node's training."""

    def amounts(node: NodeRun) -> Amounts | None:
        phases = phase_seconds(node)
        whole = sum(phases.values()) if phases else 0.0
        return {name: 100 * value / whole for name, value in phases.items()} if phases and whole > 0 else None

    labels, bars, of_nodes = amount_bars(runs, amounts)
    if not bars:
        return None
    shown = [name for name in PHASES if any(bar[name] >= 0.05 for bar in bars)]
    with drawing(height=_height(len(bars)), legend=True) as (figure, axes):
        begun = np.zeros(len(bars))
        for name in shown:
            values = np.array([bar[name] for bar in bars])
            number = PHASES.index(name)
            # The edge tells two colours apart where they touch.
            axes.barh(
                np.arange(len(bars)),
                values,
                0.72,
                left=begun,
                color=GRID if name == "rest" else colour(number),
                edgecolor=PAPER,
                linewidth=0.6,
                label=name,
            )
            begun += values
        axes.set_yticks(np.arange(len(bars)), labels)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the training time")
        axes.set_title("Where the time goes")
        axes.grid(False, axis="y")
    if len(runs) == 1:
        shares = ", ".join(f"{name} {words.decimals(median([bar[name] for bar in bars]), 1)} %" for name in shown)
        middles = f"Medians: {shares}."
    else:
        computing = [
            f"{run.title} {words.decimals(share, 0)} %"
            for run in runs[:4]
            if (share := median([parts["compute"] for node in run.workers if (parts := amounts(node))])) is not None
        ]
        middles = f"For computing, the median node has: {', '.join(computing)}."
    caption = (
        f"Each bar is the training of one {'node' if of_nodes else 'run, the mean of its nodes'}. {middles} "
        "Pulls that go on beside the computation cost it nothing and are not in the bars; "
        "the rest is what no clock covers."
    )
    return Picture("phases", "Where the time goes", caption, figure)


def traffic_picture(runs: Sequence[Run]) -> Picture | None:
    """What each node has received and sent."""

    def amounts(node: NodeRun) -> Amounts | None:
        received, sent = node.figure("bytes_received"), node.figure("bytes_sent")
        if not received and not sent:
            return None
        return {"received": (received or 0.0) / 1e6, "sent": (sent or 0.0) / 1e6}

    labels, bars, of_nodes = amount_bars(runs, amounts)
    if not bars:
        return None
    with drawing(height=_height(2 * len(bars)), legend=True) as (figure, axes):
        places = np.arange(len(bars))
        for number, name in enumerate(("received", "sent")):
            values = [bar[name] for bar in bars]
            axes.barh(places + 0.38 * number - 0.19, values, 0.36, color=colour(number), label=name)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.set_xlabel("MB on the wire")
        axes.set_title("Traffic")
        axes.grid(False, axis="y")
    most = max(range(len(bars)), key=lambda place: bars[place]["received"])
    caption = (
        f"Bytes of the exchange of each {'node' if of_nodes else 'run, the mean of its nodes'}. "
        f"Most is received by {labels[most]}: {words.nbytes(1e6 * bars[most]['received'])}."
    )
    if any(run.strategy == "parameter-server" for run in runs):
        caption += " What is pushed to a parameter server is counted without its headers."
    return Picture("traffic", "Traffic", caption, figure)


def matrix_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Who merged from whom, one picture for each of the first runs in which somebody did."""
    merging = [run for run in runs if merge_matrix(run)[2].any()][:MOST_MATRICES]
    return [_matrix_picture(run, number, len(runs) > 1) for number, run in enumerate(merging)]


def _matrix_picture(run: Run, number: int, several: bool) -> Picture:
    from matplotlib.patches import Rectangle

    mergers, sources, counts = merge_matrix(run)
    whole = counts.shape
    mergers, sources = mergers[:MOST_CELLS], sources[:MOST_CELLS]
    counts = counts[: len(mergers), : len(sources)]
    most = max(int(counts.max()), 1)
    with drawing(height=1.1 + 0.26 * max(len(mergers), 3)) as (figure, axes):
        for row in range(len(mergers)):
            for column in range(len(sources)):
                share = counts[row, column] / most
                axes.add_patch(
                    Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, facecolor=colour(0), alpha=0.06 + 0.54 * share)
                )
                if counts[row, column]:
                    axes.text(
                        column,
                        row,
                        f"{counts[row, column]}",
                        ha="center",
                        va="center",
                        color=INK,
                        fontsize=8 if len(sources) <= 10 else 5,
                    )
        axes.set_xlim(-0.5, len(sources) - 0.5)
        axes.set_ylim(len(mergers) - 0.5, -0.5)
        axes.set_xticks(range(len(sources)), [short(name) for name in sources], rotation=0 if len(sources) <= 5 else 60)
        axes.set_yticks(range(len(mergers)), [short(name) for name in mergers])
        axes.set_xlabel("merged from")
        axes.grid(False)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_title("Who merged from whom" + (f": {short(run.title)}" if several else ""))
    row, column = divmod(int(counts.argmax()), counts.shape[1])
    caption = (
        "Merges of the node at the left with weights of the node below; the stronger the colour, the more. "
        f"Most often: {mergers[row]} from {sources[column]}, {words.plural(int(counts[row, column]), 'time')}."
    )
    if whole != counts.shape:
        caption += f" The first {MOST_CELLS} nodes of {max(whole)}."
    name = f"merges-{number + 1}" if several else "merges"
    return Picture(name, "Who merged from whom" + (f": {run.title}" if several else ""), caption, figure)
