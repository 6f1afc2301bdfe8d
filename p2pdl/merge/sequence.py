"""Several peers in one exchange: the share of each, so that the order of the pulls does not matter."""

from __future__ import annotations

from collections.abc import Sequence


def joint_shares(pairwise: Sequence[float], count: int = 1) -> list[float]:
    """The shares of the latest of several peers that are merged in one exchange, some of them at once.

    A rule's share w of one peer against oneself is the mass r = w / (1 - w) against 1. Peers merged at once, all as
    differences from one base, take the share r_i / (1 + r_1 + ... + r_k) of the sum so far, where r_1 to r_k are the
    masses of all the exchange's peers up to them; every model ends with the share of its mass. Under `mean` that is the
    average of all k + 1 models.

    With local progress between the pulls, the base of a later merge must hold the earlier merges of the
    same exchange: apply them to the base as well, or take it after them.

    Args:
        pairwise: The rule's shares of the peers merged in this exchange, in order, the present ones last;
            each between 0 and 1. Peers with share 1 leave nothing to the others and share evenly.
        count: How many of them are merged now.

    Returns:
        The shares, between 0 and 1, of the last `count` peers of the list.

    Raises:
        ValueError: The list is shorter than that or holds something that is no share.
    """
    if not 0 <= count <= len(pairwise) or not all(0.0 <= share <= 1.0 for share in pairwise):
        raise ValueError(f"shares must be between 0 and 1, {count} at least, not {list(pairwise)}")
    latest = pairwise[len(pairwise) - count :]
    whole = sum(share == 1.0 for share in pairwise)
    if whole:
        return [float(share == 1.0) / whole for share in latest]
    total = 1.0 + sum(share / (1.0 - share) for share in pairwise)
    return [share / (1.0 - share) / total for share in latest]
