"""A desk for cases that are run by a test: it keeps what is said and noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Desk:
    """Takes what a case leaves.

    Attributes:
        folder: Of the case.
        is_smoke: See `experiments.harness.experiment.Desk`.
        shares: How far the case was, each time that it said so.
        facts: What it has noted.
    """

    folder: Path
    is_smoke: bool = True
    shares: list[float | None] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    def say(self, share: float | None, text: str) -> None:
        self.shares.append(share)

    def note(self, **facts: object) -> None:
        self.facts |= facts
