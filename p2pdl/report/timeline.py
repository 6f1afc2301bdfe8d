"""The length of each step, out of a node's `timeline.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
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
    """The same of its lines, each of which holds one event; read one by one, as a timeline may have a million."""
    started: dict[int, float] = {}
    for text in raw:
        if b'"compute"' not in text:
            continue
        try:
            event = json.loads(text.strip().rstrip(b","))
            started[int(event["args"]["step"])] = float(event["ts"]) / 1e6
        except (ValueError, KeyError, TypeError):
            # Half an event is what a process that was killed may leave.
            continue
    steps = sorted(started)
    return np.array([started[b] - started[a] for a, b in pairwise(steps) if b == a + 1 and started[b] >= started[a]])
