"""The figures of an experiment's cases in a folder: each is written when it is done, and read when it is run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.experiment import Case, Experiment, Figures, Size
from p2pdl.errors import StartupError
from p2pdl.files import replace
from p2pdl.report.findings import CaseRecord, Findings, write_findings
from p2pdl.types import JsonObject

CASES, LEFT = "cases", "left"
"""Folders of the figures, and of what cases leave besides."""


@dataclass(frozen=True)
class Done:
    """A case that was run.

    Attributes:
        figures: What it has come to; None if it has failed.
        seconds: How long it took.
        environment: Versions, cores, load and links at that time.
        error: What it has failed of.
    """

    figures: Figures | None
    seconds: float
    environment: JsonObject
    error: str = ""


class Records:
    """The folder of one experiment at one size.

    Args:
        root: The folder of all results.
        experiment: Whose.
        size: Which.

    Attributes:
        folder: Where everything is.
    """

    def __init__(self, root: Path, experiment: Experiment, size: Size) -> None:
        self.folder = root / size / experiment.name
        self._experiment = experiment
        self._size = size

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            StartupError: It cannot be made.
        """
        try:
            (self.folder / CASES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(
                f"the folder {self.folder} cannot be made: {error.strerror}", "name another one with --out"
            ) from None

    def desk_folder(self, case: Case) -> Path:
        """An empty folder for what the case leaves."""
        path = self.folder / LEFT / case.name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def read(self, case: Case) -> Done | None:
        """What is kept of a case with these settings; None if there is nothing, or nothing whole."""
        try:
            kept = json.loads(self._path(case).read_bytes())
            if kept["digest"] != case.digest:
                return None
            return Done(kept["figures"], kept["seconds"], kept["environment"], kept["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, case: Case, done: Done) -> None:
        """Keep a case, in one piece."""
        text = json.dumps(
            {
                "title": case.title,
                "digest": case.digest,
                "settings": case.settings,
                "figures": done.figures,
                "seconds": done.seconds,
                "environment": done.environment,
                "error": done.error,
            }
        )
        replace(self._path(case), text + "\n")

    def conclude(self, cases: Sequence[Case]) -> Findings:
        """Write and return what the cases that are kept say together."""
        kept = {case.name: self.read(case) for case in cases}
        figures = {name: done.figures for name, done in kept.items() if done is not None and done.figures is not None}
        found = self._experiment.conclude(self._size, figures)
        findings = Findings(
            name=self._experiment.name,
            title=self._experiment.title,
            claim=self._experiment.claim,
            source=self._experiment.source,
            command=self._experiment.command(self._size),
            size=str(self._size),
            sentence=found.sentence,
            promises=list(found.promises),
            tables=list(found.tables),
            charts=list(found.charts),
            notes=list(found.notes),
            cases=[_record(case, kept[case.name]) for case in cases],
            rank=self._experiment.rank,
        )
        write_findings(self.folder, findings)
        return findings

    def _path(self, case: Case) -> Path:
        return self.folder / CASES / f"{case.name}.json"


def _record(case: Case, done: Done | None) -> CaseRecord:
    if done is None:
        return CaseRecord(case.title, "missing", settings=case.settings)
    state = "done" if done.figures is not None else "failed"
    return CaseRecord(case.title, state, done.seconds, done.error, case.settings, done.environment)
