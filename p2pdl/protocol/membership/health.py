"""How far a node trusts its own judgement.

Dadgar, Phillips, Currey (2018), "Lifeguard: Local Health Awareness for More Accurate Failure Detection": Local Health
Multiplier, section IV.A.
"""

from __future__ import annotations

HIGHEST_MULTIPLIER = 8


class Health:
    """A score that rises when this node seems to be the slow one.

    Attributes:
        score: 0 for a healthy node, at most `HIGHEST_MULTIPLIER` - 1.
    """

    def __init__(self) -> None:
        self.score = 0

    @property
    def multiplier(self) -> int:
        """What this node's own time-outs and intervals are multiplied by: LHM + 1."""
        return self.score + 1

    def better(self) -> None:
        """A probe was answered."""
        self.score = max(0, self.score - 1)

    def worse(self, by: int = 1) -> None:
        """So many signs that this node is slow."""
        self.score = min(HIGHEST_MULTIPLIER - 1, self.score + by)

    def worst(self) -> None:
        """This node did not run for a while."""
        self.score = HIGHEST_MULTIPLIER - 1
