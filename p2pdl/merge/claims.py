"""What peers say about their losses, held within what the others say, so that no claim can buy a larger share."""

from __future__ import annotations

import math
from collections import deque

from p2pdl.types import NodeId

WINDOW = 50
"""Claims heard last, of all peers together."""

FEWEST = 5
"""With fewer claims to compare with, a claim is taken as it is: the rule's clamp bounds what it can do."""

LOWEST, HIGHEST = 0.05, 0.95
"""Quantiles of the other claims between which a claim is moved."""


class Claims:
    """The losses that peers have claimed of late.

    A claim is held within the quantiles of what the *others* have claimed, this node's own loss included: a peer that
    is heard often cannot move the bounds of its own claims.
    """

    def __init__(self) -> None:
        self._heard: deque[tuple[NodeId, float]] = deque(maxlen=WINDOW)

    def believe(self, peer: NodeId, claimed: float, own: float) -> float:
        """Note a claim; returns the loss to go by.

        Args:
            peer: Who claims.
            claimed: Its smoothed loss. One that is negative or not finite is not noted and returned as it is, for the
                merge rule to refuse.
            own: This node's own smoothed loss; it does not count if it is not finite.
        """
        if not math.isfinite(claimed) or claimed < 0.0:
            return claimed
        others = [loss for name, loss in self._heard if name != peer]
        if math.isfinite(own):
            others.append(own)
        self._heard.append((peer, claimed))
        if len(others) < FEWEST:
            return claimed
        others.sort()
        return min(max(claimed, _quantile(others, LOWEST)), _quantile(others, HIGHEST))


def _quantile(ordered: list[float], share: float) -> float:
    """The quantile with linear interpolation, as `numpy.quantile` has it, which takes 20 times as long for so few."""
    place = share * (len(ordered) - 1)
    below = int(place)
    if below + 1 == len(ordered):
        return ordered[below]
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
