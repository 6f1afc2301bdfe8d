"""When a node is a newcomer, whose first merge takes the peer's weights whole.

Averaging models of unrelated stages destroys both: the weights between a fresh and a trained network are a
good model of nothing.
"""

from __future__ import annotations

NEWCOMER_LEAD = 10
"""Steps that a peer must be ahead at least; nodes started together differ by a few."""

NEWCOMER_FACTOR = 2.0
"""How many times the steps of a newcomer its peer must have done, more than that."""

RESUMED_FACTOR = 1.25
"""The same for a node that goes on after a break: its weights are of the same descent, but the others have moved on."""


def is_newcomer(own_step: int, peer_step: int, merges: int, resumed: bool = False) -> bool:
    """Whether the node should take the peer's weights instead of merging them.

    Args:
        own_step: Optimizer steps behind the node's own weights.
        peer_step: Optimizer steps behind the peer's.
        merges: Merges the node has done since it was started.
        resumed: True if it goes on from a checkpoint.

    Returns:
        True before the first merge, if the peer has more than `NEWCOMER_FACTOR` times the node's steps, or
        `RESUMED_FACTOR` times, and is at least `NEWCOMER_LEAD` steps ahead.
    """
    factor = RESUMED_FACTOR if resumed else NEWCOMER_FACTOR
    return merges == 0 and peer_step > factor * own_step and peer_step - own_step >= NEWCOMER_LEAD
