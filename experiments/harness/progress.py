"""How far a row of cases is: a bar with the time left on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from p2pdl.training.recorder import duration

LINE_SECONDS = 30.0
"""Between two lines where there is no terminal."""


class Forecast:
    """How much of some work is done, and how long the rest takes at the pace so far.

    Args:
        expected: Seconds that each part takes, about.
    """

    def __init__(self, expected: list[float]) -> None:
        self._expected = expected
        self._number = 0
        self._done_expected = self._done_seconds = 0.0

    def on_done(self, seconds: float) -> None:
        """The next part has taken so long; 0 if it needed not to be done."""
        if seconds:
            self._done_expected += self._expected[self._number]
            self._done_seconds += seconds
        self._number += 1

    def share(self, of_part: float | None) -> float:
        """Of all that was expected.

        Args:
            of_part: The share of the part under way; None where that is not known.
        """
        whole = sum(self._expected)
        done = sum(self._expected[: self._number])
        if self._number < len(self._expected):
            done += (of_part or 0.0) * self._expected[self._number]
        return done / whole if whole else 1.0

    def seconds_left(self, since: float, of_part: float | None) -> float:
        """How long the rest takes.

        Args:
            since: Seconds since the part under way has begun.
            of_part: Its share that is done; None where that is not known.
        """
        if self._number >= len(self._expected):
            return 0.0
        pace = self._done_seconds / self._done_expected if self._done_expected else 1.0
        now = self._expected[self._number] * pace
        rest = since * (1.0 - of_part) / of_part if of_part else max(0.0, now - since)
        return rest + pace * sum(self._expected[self._number + 1 :])


class ProgressBar:
    """Shows a forecast; a context manager.

    Args:
        forecast: What is shown.
        console: Where; standard error as a rule.
    """

    def __init__(self, forecast: Forecast, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._forecast = forecast
        self._title = ""
        self._began = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]} left", style="bold"),
            TextColumn("{task.description}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=1.0, left="-")

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @contextlib.contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A part is under way."""
        self._title, self._began, self._said = title, time.monotonic(), -1e9
        self.say(None, "")
        yield
        self._forecast.on_done(time.monotonic() - self._began)

    def skip(self) -> None:
        """A part was done before."""
        self._forecast.on_done(0.0)

    def say(self, share: float | None, text: str) -> None:
        """Tell how far the part under way is; see `Desk`."""
        left = duration(self._forecast.seconds_left(time.monotonic() - self._began, share))
        whole = self._forecast.share(share)
        what = f"{self._title}: {text}" if text else self._title
        self._bar.update(self._task, completed=whole, description=what, left=left)
        if not self.console.is_terminal and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            self.console.print(f"{100 * whole:.0f} %, {left} left: {what}", soft_wrap=True, markup=False)
            sys.stderr.flush()

    def line(self, text: str, style: str = "") -> None:
        """Say something that stays."""
        self.console.print(text, style=style or None, soft_wrap=True, markup=False)
