"""What a run leaves while it goes on: lines of `metrics.jsonl`, a progress line now and then, and step statistics."""

from __future__ import annotations

import json
import logging
import math
import statistics
from array import array
from pathlib import Path

from p2pdl.clock import Clock
from p2pdl.types import JsonObject

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0


class Recorder:
    """Records steps.

    Args:
        path: The `metrics.jsonl` to append to.
        interval: Seconds between its lines.
        steps: Steps to do in all.
        clock: Source of times.
    """

    def __init__(self, path: Path, interval: float, steps: int, clock: Clock) -> None:
        self._path = path
        self._interval = interval
        self._steps = steps
        self._clock = clock
        self._started = clock.now()
        self._next_line = self._started + interval
        self._next_progress = self._started + PROGRESS_SECONDS
        self._seconds = array("f")
        self._recent_losses: list[float] = []
        self._mean_loss = math.nan
        self._write_failed = False
        _cut_half_line(path)

    def begin(self) -> None:
        """The first step begins now."""
        self._started = self._clock.now()
        self._next_line = self._started + self._interval
        self._next_progress = self._started + PROGRESS_SECONDS

    @property
    def elapsed(self) -> float:
        """Seconds since the first step began."""
        return self._clock.now() - self._started

    def on_step(self, loss: float, seconds: float) -> None:
        """Note a step, the exchange after it included."""
        self._seconds.append(seconds)
        self._recent_losses.append(loss)

    def is_line_due(self) -> bool:
        """True once an interval has passed since the last line."""
        return self._clock.now() >= self._next_line

    def write_line(self, figures: JsonObject) -> None:
        """Append a line; a disk that is full costs the line, not the run.

        Args:
            figures: Everything but the time and the losses.
        """
        self._next_line = self._clock.now() + self._interval
        if self._recent_losses:
            self._mean_loss = sum(self._recent_losses) / len(self._recent_losses)
            self._recent_losses = []
        line: JsonObject = {"seconds": round(self.elapsed, 3), **figures, "train_loss": self._mean_loss}
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(finite(line)) + "\n")
            self._write_failed = False
        except OSError as error:
            if not self._write_failed:
                log.warning("cannot write %s (%s); training goes on without it", self._path, error.strerror)
            self._write_failed = True

    def progress(self, step: int, smoothed_loss: float, exchange: str) -> None:
        """Log a progress line if one is due.

        Args:
            step: Optimizer steps done.
            smoothed_loss: The smoothed loss.
            exchange: How the exchange goes; empty without one.
        """
        if self._clock.now() < self._next_progress:
            return
        self._next_progress = self._clock.now() + PROGRESS_SECONDS
        log.info(
            "step %d of %d (%d %%), loss %.3f, %.1f ms a step%s, %s left",
            step,
            self._steps,
            100 * step // self._steps,
            smoothed_loss,
            1000 * self.recent_seconds_per_step(),
            f", {exchange}" if exchange else "",
            duration(self.seconds_left(step)),
        )

    def recent_seconds_per_step(self) -> float:
        """Median over the last hundred steps."""
        return statistics.median(self._seconds[-100:]) if self._seconds else 0.0

    def seconds_left(self, step: int) -> float:
        """Estimate from the mean of the last hundred steps."""
        recent = self._seconds[-100:]
        return (self._steps - step) * sum(recent) / len(recent) if recent else 0.0

    def seconds_per_step(self) -> JsonObject:
        """Median, p10 and p90 of all steps but the first, which compiles."""
        ordered = sorted(self._seconds[1:] or self._seconds)
        if not ordered:
            return {"median": None, "p10": None, "p90": None}
        last = len(ordered) - 1
        return {name: ordered[round(q * last)] for name, q in (("median", 0.5), ("p10", 0.1), ("p90", 0.9))}


def _cut_half_line(path: Path) -> None:
    """A process that was killed while it wrote leaves half a line, to which the next one would be added."""
    try:
        with path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    except OSError:
        # Nothing to mend, or nothing that could be mended: `write_line` says what is wrong.
        return


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def finite(value: object) -> object:
    """The same JSON value with null for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
