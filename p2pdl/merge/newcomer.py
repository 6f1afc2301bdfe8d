"""When a node is a newcomer, whose first merge takes the peer's weights whole.

Averaging models of unrelated stages destroys both: the weights between a fresh and a trained network are a
good model of nothing.
"""

from __future__ import annotations

NEWCOMER_LEAD = 10
"""Steps that a peer must be ahead at least; nodes started together differ by a few."""


def is_newcomer(own_step: int, peer_step: int, merges: int) -> bool:
    """Whether the node should take the peer's weights instead of merging them.

    Args:
        own_step: Optimizer steps behind the node's own weights.
        peer_step: Optimizer steps behind the peer's.
        merges: Merges the node has done so far.

    Returns:
        True before the first merge, if the peer has more than twice the node's steps and is at least
        `NEWCOMER_LEAD` steps ahead.
    """
    return merges == 0 and peer_step > 2 * own_step and peer_step - own_step >= NEWCOMER_LEAD
