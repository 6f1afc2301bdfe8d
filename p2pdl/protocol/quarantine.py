"""Peers whose material had to be refused: three strikes, and a peer is left alone, longer each time, never for ever."""

from __future__ import annotations

from dataclasses import dataclass

STRIKE_CODES = frozenset(
    {
        "digest",
        "distance",
        "length",
        "loss-negative",
        "loss-not-finite",
        "model",
        "negative-variance",
        "not-finite",
        "payload",
        "protocol-error",
        "rejected",
        "worse",
    }
)
"""What was refused for itself. Silence is none of it: a peer that does not answer has done nothing wrong."""

STRIKES = 3
"""Refusals without a good pull between them that lead into quarantine."""

FIRST_TERM = 60.0
"""Seconds of a peer's first quarantine; the next one is twice as long."""

LONGEST_TERM = 3600.0
"""Seconds: however often a peer was refused, it gets another try after this."""


@dataclass(slots=True)
class Conduct:
    """How one peer's material has been.

    Attributes:
        strikes: Refusals since the last good pull.
        terms: Quarantines, each good pull since taken off.
    """

    strikes: int = 0
    terms: int = 0

    def on_refusal(self) -> float | None:
        """Note a refusal; the seconds for which the peer is to be left alone, None if it may be asked on.

        After a quarantine there is one try: what is refused then leads into the next one at once.
        """
        self.strikes += 1
        if self.strikes < STRIKES:
            return None
        term = FIRST_TERM
        for _ in range(self.terms):
            term = min(2.0 * term, LONGEST_TERM)
        self.terms += term < LONGEST_TERM
        return term

    def on_good_pull(self) -> None:
        """Note material that was merged: the strikes are forgotten, and of the quarantines one."""
        self.strikes = 0
        self.terms = max(0, self.terms - 1)
