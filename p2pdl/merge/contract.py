"""What a merge rule decides: how much of a peer's model goes into one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a model has come.

    Attributes:
        loss: Smoothed training loss; NaN before the first step.
        samples: Training samples behind the weights.
        step: Optimizer steps behind the weights.
    """

    loss: float
    samples: int
    step: int


class MergeRule(Protocol):
    """The rule that weighs a peer's model against one's own."""

    def weight(self, own: Standing, peer: Standing) -> float:
        """The peer's share, between 0 and 1, when the two models are merged.

        Raises:
            RejectedWeights: What the peer says about its model rules it out.
        """
        ...
