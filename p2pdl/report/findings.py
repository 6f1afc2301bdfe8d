"""What an experiment has found, as one file: its claim and whether it holds, tables, charts, and how it was done."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from p2pdl.errors import StartupError
from p2pdl.files import replace
from p2pdl.report.chart import BarChart, Bars, Chart, Histogram, LineChart, Sample, Series
from p2pdl.types import JsonObject

__all__ = [
    "BarChart",
    "Bars",
    "CaseRecord",
    "Chart",
    "Findings",
    "FoundTable",
    "Histogram",
    "LineChart",
    "Promise",
    "Sample",
    "Series",
    "as_json",
    "read_findings",
    "write_findings",
]

FINDINGS_FILE = "findings.json"
VERSION = 1


@dataclass(frozen=True)
class Promise:
    """Something that was claimed, and what came of it.

    Attributes:
        what: The figure, in words.
        wanted: What it should be, such as `>= 10`.
        found: What it is; empty while it is not known.
        holds: Whether it is as it should be; None while it is not known.
    """

    what: str
    wanted: str
    found: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class FoundTable:
    """A table of text.

    Attributes:
        title: What it is.
        heads: The columns' heads; the first `names` are of text, the others of numbers.
        rows: As many cells each.
        names: How many columns of text there are.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]
    names: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise ValueError(f"the table {self.title!r} has {len(self.heads)} heads and a row of {len(row)} cells")


@dataclass(frozen=True)
class CaseRecord:
    """How one of an experiment's runs was made.

    Attributes:
        title: What it is called.
        state: `done`, `failed` or `missing`.
        seconds: How long it took; None if it is not done.
        error: What it has failed of; empty if it has not.
        settings: All that decides what it does.
        environment: Versions, cores, load and links at that time.
    """

    title: str
    state: Literal["done", "failed", "missing"]
    seconds: FiniteFloat | None = None
    error: str = ""
    settings: JsonObject = field(default_factory=dict)
    environment: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """All that is known of an experiment so far.

    Attributes:
        name: The experiment.
        title: What it is called in a page.
        claim: What should be so.
        source: Where the claim and the published figures are from.
        command: What makes these findings.
        size: `smoke`, `small` or `paper`.
        sentence: What was found, in figures.
        promises: Each part of the claim that can be decided.
        tables: Ours, with published figures beside.
        charts: The most important first.
        notes: What a reader should know before he believes it.
        cases: The runs behind it.
        rank: Experiments of a page are in this order.
    """

    name: str
    title: str
    claim: str
    source: str
    command: str
    size: str
    sentence: str
    promises: list[Promise] = field(default_factory=list)
    tables: list[FoundTable] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cases: list[CaseRecord] = field(default_factory=list)
    rank: int = 100

    @property
    def verdict(self) -> str:
        """In a word or two: `unfinished` while a run is missing or has failed."""
        if any(case.state != "done" for case in self.cases):
            return "unfinished"
        if not self.promises:
            return "shown"
        known = [promise.holds for promise in self.promises]
        if None in known:
            return "unfinished"
        if all(known):
            return "holds"
        return "holds in part" if any(known) else "does not hold"


_FINDINGS: TypeAdapter[Findings] = TypeAdapter(Findings)


def as_json(findings: Findings) -> JsonObject:
    """What their file holds; numbers that are not finite are null."""
    return {"version": VERSION, **_finite(asdict(findings))}


def write_findings(folder: Path, findings: Findings) -> None:
    """Write them, in one piece: who reads meanwhile has the ones before.

    Args:
        folder: Where; it is there.
        findings: What to write; numbers that are not finite become null.
    """
    replace(folder / FINDINGS_FILE, json.dumps(as_json(findings), indent=1) + "\n")


def read_findings(path: Path) -> Findings:
    """Read what `write_findings` has written.

    Args:
        path: The file.

    Raises:
        StartupError: It cannot be read, or is something else.
    """
    remedy = "run the experiment again: it skips what is done, and writes its findings anew"
    try:
        read = json.loads(path.read_bytes(), parse_float=_number, parse_constant=_number)
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}", remedy) from None
    except (ValueError, RecursionError) as error:
        raise StartupError(f"{path} is damaged: {error}", remedy) from None
    if not isinstance(read, dict) or read.pop("version", None) != VERSION:
        raise StartupError(f"{path} holds no findings of version {VERSION}", remedy)
    try:
        return _FINDINGS.validate_python(read)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StartupError(f"{path} is damaged: {where}: {first['msg']}", remedy) from None


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is no number is not there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _number(text: str) -> float:
    """A number of a file, which is finite in all that `write_findings` writes."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
