"""Several peers in one exchange: the share of each, so that the order of the pulls does not matter."""

from __future__ import annotations

from collections.abc import Sequence


def sequential_share(pairwise: Sequence[float]) -> float:
    """The share of the latest of several peers that are merged one after another.

    A rule's share w of one peer against oneself is the mass r = w / (1 - w) against 1. With k peers
    merged in turn, the k-th takes the share r_k / (1 + r_1 + ... + r_k) of the sum so far, and every
    model ends with the share of its mass. Under `mean` that is the average of all k + 1 models.

    With local progress between the pulls, the base of a later merge must hold the earlier merges of the
    same exchange: apply them to the base as well, or take it after them.

    Args:
        pairwise: The rule's shares of the peers merged in this exchange, in order, the present one last;
            each between 0 and 1. Peers with share 1 leave nothing to the others and share evenly.

    Returns:
        The share, between 0 and 1, for the last peer of the list.

    Raises:
        ValueError: The list is empty or holds something that is no share.
    """
    if not pairwise or not all(0.0 <= share <= 1.0 for share in pairwise):
        raise ValueError(f"shares must be between 0 and 1, one at least, not {list(pairwise)}")
    latest = pairwise[-1]
    whole = sum(share == 1.0 for share in pairwise)
    if whole:
        return 1.0 / whole if latest == 1.0 else 0.0
    masses = [share / (1.0 - share) for share in pairwise]
    return masses[-1] / (1.0 + sum(masses))
