"""Runs the cases of experiments one after another; what is done is kept, and not done again."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.harness.experiment import Case, Experiment, Size
from experiments.harness.progress import Forecast, ProgressBar
from experiments.harness.records import Done, Records
from p2pdl.errors import P2pdlError, StartupError
from p2pdl.node.environment import environment
from p2pdl.report.findings import Findings
from p2pdl.training.recorder import duration
from p2pdl.types import JsonObject

LOCK = ".lock"


@dataclass
class Workplace:
    """See `Desk`.

    Attributes:
        folder: See `Desk`.
        is_smoke: See `Desk`.
        bar: Shows how far the case is.
        facts: What `note` was told.
    """

    folder: Path
    is_smoke: bool
    bar: ProgressBar
    facts: JsonObject = field(default_factory=dict)

    def say(self, share: float | None, text: str) -> None:
        """See `Desk.say`."""
        self.bar.say(share, text)

    def note(self, **facts: object) -> None:
        """See `Desk.note`."""
        self.facts |= facts


def run(experiments: Sequence[Experiment], size: Size, root: Path, again: bool = False) -> list[Findings]:
    """Run all cases that are not done yet, and write the findings after each.

    A case that fails does not end the others. Ctrl-C ends the case under way, which is done anew next time.

    Args:
        experiments: Which.
        size: How much.
        root: The folder of all results.
        again: True to do again what is done.

    Returns:
        The findings of each.

    Raises:
        StartupError: The folder cannot be made, or somebody else works in it.
        KeyboardInterrupt: As it came; the findings of what is done are written.
    """
    work = [(one, Records(root, one, size), list(one.cases(size))) for one in experiments]
    for _, records, _ in work:
        records.prepare()
    forecast = Forecast([60.0 * case.minutes for _, _, cases in work for case in cases])
    with _alone(root / size), ProgressBar(forecast) as bar:
        for one, records, cases in work:
            try:
                for case in cases:
                    kept = records.read(case)
                    if kept is not None and not kept.error and not again:
                        bar.skip()
                        continue
                    done = _do(one, case, size, records, bar)
                    records.write(case, done)
                    records.conclude(cases)
            finally:
                found = records.conclude(cases)
            bar.line(f"{one.name}: {found.verdict}. {found.sentence}")
    return [records.conclude(cases) for _, records, cases in work]


def _do(one: Experiment, case: Case, size: Size, records: Records, bar: ProgressBar) -> Done:
    """Do one case; what a user can mend becomes part of the record."""
    title = f"{one.name}, {case.title}"
    desk = Workplace(records.desk_folder(case), size == Size.SMOKE, bar)
    # Before the case itself makes the machine busy.
    surroundings = environment()
    started = time.monotonic()
    figures, error = None, ""
    with bar.part(title):
        try:
            if reason := case.needs():
                raise StartupError(f"this cannot be done here: {reason}")
            figures = case.work(desk)
        except P2pdlError as failure:
            error = str(failure)
    seconds = time.monotonic() - started
    if error:
        bar.line(f"{title} failed: {error}", "red")
    else:
        bar.line(f"{title}: done in {duration(seconds)}")
    return Done(figures, seconds, {**surroundings, **desk.facts}, error)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes results there meanwhile.

    Raises:
        StartupError: Somebody does.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartupError(
                f"other experiments write their results to {folder} now",
                "wait for them, as two at a time would disturb each other's times, or name another folder with --out",
            ) from None
        yield
