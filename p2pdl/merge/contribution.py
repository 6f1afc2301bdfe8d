"""Contribution by loss, so that the better model counts more: w_peer = L_own / (L_own + L_peer)."""

from __future__ import annotations

import math

from p2pdl.errors import RejectedWeights
from p2pdl.merge.contract import Standing

DEFAULT_CLAMP = (0.1, 0.9)
"""Least and greatest share of a peer: its loss is a claim, and must not silence or replace a model."""


class Contribution:
    """Equal losses give the mean, a much better peer dominates, and the clamp bounds both.

    Args:
        clamp: Least and greatest share of a peer, 0 <= low <= high <= 1.

    Raises:
        ValueError: The clamp is not such a pair.
    """

    def __init__(self, clamp: tuple[float, float] = DEFAULT_CLAMP) -> None:
        self._low, self._high = clamp
        if not 0.0 <= self._low <= self._high <= 1.0:
            raise ValueError(f"the clamp must be two shares with 0 <= low <= high <= 1, not {clamp}")

    def weight(self, own: Standing, peer: Standing) -> float:
        """The peer's share by the ratio of the losses, clamped.

        A node without a loss of its own, before its first step or after it diverged, gives its peer the
        greatest share.

        Raises:
            RejectedWeights: The peer's loss is no basis for a ratio; `code` is `not-trained-yet`,
                `loss-not-finite` or `loss-negative`.
        """
        _refuse_unusable(peer)
        return min(max(_share(own.loss, peer.loss), self._low), self._high)


def _share(own: float, peer: float) -> float:
    if not math.isfinite(own):
        return 1.0
    if own <= 0.0:
        return 0.5 if own == peer else 0.0
    # The same as own / (own + peer), whose sum could overflow.
    return 1.0 / (1.0 + peer / own)


def _refuse_unusable(peer: Standing) -> None:
    if peer.step == 0 and math.isnan(peer.loss):
        raise RejectedWeights(
            "the peer has not finished its first step, so it has no loss to weigh its model by",
            "nothing to do: it is asked again in a later round",
            code="not-trained-yet",
        )
    if not math.isfinite(peer.loss):
        raise RejectedWeights(
            f"the peer's loss is {peer.loss} after {peer.step} steps: its training has diverged",
            "lower train.optimizer.learning_rate, on that node at least",
            code="loss-not-finite",
        )
    if peer.loss < 0.0:
        raise RejectedWeights(
            f"the peer's loss is {peer.loss:g}, and negative losses have no ratio",
            "set gossip.merge to mean if the loss of this model can be negative",
            code="loss-negative",
        )
