"""The length of each step, out of a node's `timeline.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from p2pdl.report.run import Column


def read_step_seconds(path: Path) -> Column:
    """Seconds of each step whose successor is in the timeline too, the exchange between the two included.

    Args:
        path: A `timeline.json`, which need not be there, nor be whole.
    """
    try:
        with path.open("rb") as file:
            return step_seconds_of(file)
    except OSError:
        return np.empty(0)


def step_seconds_of(raw: Iterable[bytes]) -> Column:
    """The same of its lines; evaluations between two steps are no part of either."""
    steps, moments, evaluations = _events_of(raw)
    lengths = np.diff(moments)
    for moment, seconds in evaluations:
        before = int(np.searchsorted(moments, moment)) - 1
        if 0 <= before < len(lengths):
            lengths[before] -= seconds
    result: Column = lengths[(np.diff(steps) == 1) & (lengths >= 0)]
    return result


def read_step_starts(path: Path) -> tuple[Column, Column]:
    """When each step has begun.

    Args:
        path: A `timeline.json`, which need not be there, nor be whole.

    Returns:
        The steps' numbers, ascending, and seconds of the machine's monotonic clock, which all nodes of it share.
    """
    try:
        with path.open("rb") as file:
            return _events_of(file)[:2]
    except OSError:
        return np.empty(0), np.empty(0)


def _events_of(raw: Iterable[bytes]) -> tuple[Column, Column, list[tuple[float, float]]]:
    """Steps and their moments, and moment and seconds of each evaluation.

    Args:
        raw: Lines that hold an event each; read one by one, as a timeline may have a million.
    """
    started: dict[int, float] = {}
    evaluations = []
    for text in raw:
        if b'"compute"' not in text and b'"evaluate"' not in text:
            continue
        try:
            event = json.loads(text.strip().rstrip(b","))
            moment = float(event["ts"]) / 1e6
            if event["name"] == "evaluate":
                evaluations.append((moment, float(event["dur"]) / 1e6))
            else:
                started[int(event["args"]["step"])] = moment
        except (ValueError, KeyError, TypeError):
            # Half an event is what a process that was killed may leave.
            continue
    steps = sorted(started)
    moments = np.array([started[step] for step in steps], dtype=np.float64)
    return np.array(steps, dtype=np.float64), moments, evaluations
