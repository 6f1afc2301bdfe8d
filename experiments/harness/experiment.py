"""What an experiment is: a claim, its cases at three sizes, and what is concluded from their figures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from p2pdl.report.findings import Chart, FoundTable, Promise
from p2pdl.types import JsonObject

Figures = JsonObject
"""What a case comes to, as JSON."""

Results = Mapping[str, Figures]
"""The figures of the cases that are done, by the names of the cases."""


class Size(StrEnum):
    """How much is done: seconds, minutes on two cores, or what was published."""

    SMOKE = "smoke"
    SMALL = "small"
    PAPER = "paper"


class Desk(Protocol):
    """What a case is given to work with.

    Attributes:
        folder: Empty at first; what is left in it is kept beside the case's figures.
        is_smoke: True where nothing is to be decided: what only makes figures surer is left out.
    """

    folder: Path
    is_smoke: bool

    def say(self, share: float | None, text: str) -> None:
        """Tell how far the case is.

        Args:
            share: Of the whole case, in [0, 1]; None where that is not known.
            text: What is going on.
        """

    def note(self, **facts: object) -> None:
        """Add to what is recorded of the machine, such as what its links really give; JSON values."""


@dataclass(frozen=True)
class Case:
    """One measurement, done as a whole and kept as a whole.

    Attributes:
        name: Of its file: letters, digits and `-._=`.
        title: For people.
        settings: All that decides what is done: if they are others, it is done again.
        work: Does it.
        minutes: How long that takes on two cores, about.
        needs: Why it cannot be done here, in words; asked before it is begun. Empty if it can.
    """

    name: str
    title: str
    settings: JsonObject
    work: Callable[[Desk], Figures]
    minutes: float = 1.0
    needs: Callable[[], str] = field(default=lambda: "")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.=-]+", self.name):
            raise ValueError(f"{self.name!r} is no name for a case")

    @property
    def digest(self) -> str:
        """Tells these settings from others."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Conclusion:
    """What the figures that are there say.

    Attributes:
        sentence: In one sentence, with figures.
        promises: Each part of the claim that can be decided.
        tables: Ours, with published figures beside.
        charts: The most important first.
        notes: What a reader should know before he believes it.
    """

    sentence: str
    promises: Sequence[Promise] = ()
    tables: Sequence[FoundTable] = ()
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """A claim and how it is decided.

    Attributes:
        name: Of its module.
        title: The first sentence of the module's head.
        claim: The paragraph `Claim:` there.
        source: The paragraph `Source:` there.
        cases: The cases of a size, in the order in which they are done.
        conclude: What some of their figures say; some or all may be missing.
        rank: Experiments of a page are in this order.
    """

    name: str
    title: str
    claim: str
    source: str
    cases: Callable[[Size], Sequence[Case]]
    conclude: Callable[[Size, Results], Conclusion]
    rank: int = 100

    def command(self, size: Size) -> str:
        """What runs it."""
        return f"python -m experiments {self.name} --size {size}"

    def minutes(self, size: Size) -> float:
        """How long all cases of a size take on two cores, about."""
        return sum(case.minutes for case in self.cases(size))


def experiment(
    name: str,
    head: str | None,
    cases: Callable[[Size], Sequence[Case]],
    conclude: Callable[[Size, Results], Conclusion],
    rank: int = 100,
) -> Experiment:
    """An experiment whose claim and source stand in the head of its module.

    Args:
        name: The module's `__name__`; its last part counts. `__main__` does not know it.
        head: The module's docstring: a sentence, then paragraphs, of which one begins with `Claim:` and one with
            `Source:`.
        cases: See `Experiment`.
        conclude: See `Experiment`.
        rank: See `Experiment`.

    Raises:
        ValueError: The head lacks something.
    """
    paragraphs = [" ".join(paragraph.split()) for paragraph in (head or "").split("\n\n")]
    found = {}
    for mark in ("Claim", "Source"):
        texts = [text.removeprefix(f"{mark}:").strip() for text in paragraphs if text.startswith(f"{mark}:")]
        if len(texts) != 1 or not texts[0]:
            raise ValueError(f"the head of {name} needs one paragraph that begins with `{mark}:`")
        found[mark] = texts[0][0].upper() + texts[0][1:]
    return Experiment(
        name.rpartition(".")[2], paragraphs[0].rstrip("."), found["Claim"], found["Source"], cases, conclude, rank
    )
