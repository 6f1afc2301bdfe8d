"""`metrics.jsonl`, read back into columns, however it has ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2pdl.report import words
from p2pdl.report.run import FIGURES, NO_LINES, Lines
from p2pdl.types import JsonObject

TIMES = ("seconds", "evaluation_seconds")
"""What counts from the start of the trainer's process."""


def read_lines(path: Path) -> Lines:
    """The lines of a file; one that is damaged is passed over and named.

    Args:
        path: A `metrics.jsonl`, which need not be there.
    """
    try:
        with path.open("rb") as file:
            return lines_of(file)
    except FileNotFoundError:
        return NO_LINES
    except OSError as error:
        return Lines(NO_LINES.columns, missing=(f"{path.name} cannot be read: {error.strerror}",))


def lines_of(raw: Iterable[bytes]) -> Lines:
    """The columns of some lines.

    Args:
        raw: Lines of JSON with their line ends. A run that goes on from a checkpoint writes the steps since then a
            second time: the second time counts. Where `seconds` and `evaluation_seconds` start anew, they go on from
            those before.
    """
    rows: list[tuple[float, ...]] = []
    last: JsonObject = {}
    pulls = _Pulls()
    damaged = 0
    is_cut = False
    for text in raw:
        line = _parsed(text)
        # A line without its end may still be whole, as in a file that somebody has edited.
        is_cut = line is None and not text.endswith(b"\n")
        if line is None:
            damaged += bool(text.strip()) and not is_cut
            continue
        rows.append(tuple(_number(line.get(name)) for name in FIGURES))
        pulls.add(line.get("links"))
        last = line
    missing = []
    if damaged:
        missing.append(f"{words.plural(damaged, 'line')} of metrics.jsonl cannot be read")
    if is_cut:
        missing.append("the last line of metrics.jsonl is cut off")
    table = np.array(rows, dtype=np.float64).reshape(-1, len(FIGURES))
    columns = dict(zip(FIGURES, table.T, strict=True))
    anew = _starts_anew(columns)
    for name in TIMES:
        columns[name] = _going_on(columns[name], anew)
    kept = ~superseded(columns["step"])
    return Lines({name: column[kept] for name, column in columns.items()}, last, pulls.total(), tuple(missing))


def superseded(steps: np.ndarray) -> np.ndarray:
    """Which lines a later line has taken back.

    Args:
        steps: Steps in the order of the lines, shape (lines,); NaN counts as taken back.

    Returns:
        Booleans, shape (lines,): true where a later line has no more steps.
    """
    known = np.where(np.isnan(steps), np.inf, steps)
    least_after = np.minimum.accumulate(np.append(known, np.inf)[:0:-1])[::-1]
    result: np.ndarray = np.isnan(steps) | (known >= least_after)
    return result


def _starts_anew(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which lines are the first of a process: what else only grows is less than in the line before."""
    falls = [np.diff(columns[name], prepend=columns[name][:1]) < 0 for name in ("step", *TIMES)]
    result: np.ndarray = np.logical_or.reduce(falls)
    return result


def _going_on(seconds: np.ndarray, anew: np.ndarray) -> np.ndarray:
    before = np.concatenate(([0.0], seconds[:-1]))[: len(seconds)]
    # A version of p2pdl that did not know a figure may have written the lines before.
    result: np.ndarray = seconds + np.cumsum(np.where(anew, np.nan_to_num(before), 0.0))
    return result


class _Pulls:
    """Merges by peer over all restarts: a count that falls has begun anew."""

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        self._now: dict[str, int] = {}

    def add(self, links: Any) -> None:
        if not isinstance(links, dict):
            return
        for peer, link in links.items():
            count = link.get("pulls") if isinstance(link, dict) else None
            if not isinstance(count, int):
                continue
            before = self._now.get(peer, 0)
            if count < before:
                self._ended[peer] = self._ended.get(peer, 0) + before
            self._now[peer] = count

    def total(self) -> dict[str, int]:
        return {peer: count + self._ended.get(peer, 0) for peer, count in self._now.items()}


def _parsed(text: bytes) -> JsonObject | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
