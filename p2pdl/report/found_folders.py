"""The findings of experiments in folders, in the order of their ranks; a damaged file does not hide the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pdl.errors import StartupError
from p2pdl.report.findings import FINDINGS_FILE, Findings, read_findings

REMEDY = (
    "name the folder of an experiment, or of all experiments of a size, such as runs/experiments/small: "
    f"{FINDINGS_FILE} is in it, or in each folder in it"
)


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        experiments: By rank, then by name.
        folders: Where each of them is.
        missing: What could not be read, in words, each with its file.
    """

    experiments: list[Findings]
    folders: list[Path]
    missing: list[str]


def are_findings(folders: Sequence[Path]) -> bool:
    """Whether folders hold experiments' findings rather than runs.

    Args:
        folders: Some that one wants to have reported.

    Raises:
        StartupError: Some hold findings and others do not, or they are deeper inside.
    """
    holding = [folder for folder in folders if files_in(folder)]
    if not holding:
        for folder in folders:
            deeper = sorted({path.parents[1] for path in folder.glob(f"*/*/{FINDINGS_FILE}")})
            if deeper:
                raise StartupError(
                    f"{folder} holds experiments' findings one folder too deep",
                    "name one of " + ", ".join(map(str, deeper)),
                )
        return False
    others = [folder for folder in folders if folder not in holding]
    if others:
        raise StartupError(
            f"{holding[0]} holds experiments' findings, and {others[0]} holds none",
            "report runs and findings one kind at a time: leave out the ones or the others",
        )
    return True


def files_in(folder: Path) -> list[Path]:
    """The findings of a folder: its own, or else those of the folders in it."""
    own = folder / FINDINGS_FILE
    return [own] if own.exists() else sorted(folder.glob(f"*/{FINDINGS_FILE}"))


def read_all(folders: Sequence[Path]) -> Found:
    """Read the findings of some folders, each file once.

    Raises:
        StartupError: There is none that could be read.
    """
    files = {path.resolve(): path for folder in folders for path in files_in(folder)}
    read: list[tuple[Findings, Path]] = []
    errors: list[StartupError] = []
    for path in files.values():
        try:
            read.append((read_findings(path), path.parent))
        except StartupError as error:
            errors.append(error)
    if not read:
        raise errors[0] if errors else StartupError(f"no experiment has left findings in {folders[0]}", REMEDY)
    read.sort(key=lambda entry: (entry[0].rank, entry[0].name, entry[0].size))
    return Found([found for found, _ in read], [folder for _, folder in read], [error.message for error in errors])
