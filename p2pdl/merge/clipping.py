"""Self-centred clipping: x += w clip(y - x0, radius): no peer moves this node further than its peers usually do.

He, Karimireddy, Jaggi, "Byzantine-Robust Decentralized Learning via ClippedGossip" (2022), Algorithm 1:
x_i + sum_j W_ij clip(x_j - x_i, tau_i), here for one neighbour at a time and with a radius learnt from distances.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from p2pdl.errors import RejectedWeights
from p2pdl.merge.outliers import Outliers
from p2pdl.types import NodeId

DEFAULT_CLIP = 3.0
"""Usual distances that make up the radius: honest peers are hardly ever shortened, however they differ."""

WINDOW = 50
"""Accepted distances, of all peers together, that say what is usual."""

FEWEST = 3
"""With fewer accepted distances than that, the usual one is taken from this node's own weights."""

FIRST_SHARE = 0.01
"""What is then usual, as a share of the root mean square of one's own weights. Nodes begin with the same weights; what
they differ by later was 0.001 to 0.03 for `digits`, iid or one class to a node, sgd or adam."""

LEAST_SHARE = 1e-4
"""What is usual at least, as the same share: nodes that have agreed to the last bit may come apart again."""

REJECT = 20.0
"""Radii beyond which a model is not shortened but refused: broken or malicious, not different. Honest nodes were up to
7 radii away, those that took 20 times as long for a step."""

UNRELATED = 1.9
"""Own lengths beyond which a model is refused even if most peers are as far away. A model that was begun apart is 1.4
lengths away, and 1.9 where it has grown to be 1.6 times as long; a mirrored one 2: without a bound, a node that hears
only of broken ones would follow them."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far what was pulled lies from one's own weights.

    Attributes:
        length: The 2-norm of the difference over the entries that have come, statistics left aside; infinite or NaN
            where the difference has no value in float32.
        entries: How many entries that are.
        sparse: True if only some entries of a shard were sent.
    """

    length: float
    entries: int
    sparse: bool = False

    @property
    def each(self) -> float:
        """Root mean square of the difference: comparable, however much of the model was sent."""
        return self.length / math.sqrt(self.entries) if self.entries else 0.0


class Clipping:
    """Learns which distances are usual, and shortens or refuses what is further away.

    What is usual is the median over peers of each one's median distance within the last `WINDOW` accepted ones; with
    an even number of peers the lower of the two in the middle. So a peer that is pulled often counts for no more than
    another, and half of the peers at most cannot raise it. Distances are taken for each entry, and parts of a
    model and deltas have histories of their own: the entries that a delta sends are those that have changed most.

    Args:
        radius: In usual distances; None to shorten and refuse nothing but what is not finite.

    Raises:
        ValueError: The radius is not above 0.
    """

    def __init__(self, radius: float | None = DEFAULT_CLIP) -> None:
        if radius is not None and not radius > 0.0:
            raise ValueError(f"the radius must be above 0, not {radius}")
        self._radius = radius
        self._accepted: dict[tuple[range | None, bool], deque[tuple[NodeId, float]]] = {}
        self._outliers = Outliers()

    def factor(
        self,
        peer: NodeId,
        distance: Distance,
        own_scale: Callable[[], float],
        answering: Callable[[], Collection[NodeId]],
        part: range | None = None,
    ) -> float:
        """By what to multiply the difference from a peer's model, and with it the change of statistics.

        Call once for each model that is merged: its distance, shortened if need be, counts from then on. While fewer
        than `FEWEST` count, or if half of the peers are so far away, what would else be refused for lying beyond
        `REJECT` radii is shortened and does not count.

        Args:
            peer: Whose model it is.
            distance: How far away it is.
            own_scale: Root mean square of one's own weights, asked for where there is no history or it is exceeded.
            answering: The peers that can be heard of at all, asked for where a model is too far away.
            part: The shards that were pulled; None for all.

        Returns:
            Between 0 and 1.

        Raises:
            RejectedWeights: The model is too far away (`distance`).
        """
        if not math.isfinite(distance.length):
            raise RejectedWeights(
                f"{peer}: its weights are too far from this node's for float32",
                "look at that node: its training has diverged, or it does not send what it has",
                code="distance",
            )
        if self._radius is None or not distance.entries:
            return 1.0
        accepted = self._accepted.setdefault((part, distance.sparse), deque(maxlen=WINDOW))
        limit = self._limit(accepted, distance.each, own_scale)
        if distance.each <= REJECT * limit:
            self._outliers.on_near(peer)
        else:
            heard, own = answering(), own_scale()
            is_related = distance.each <= UNRELATED * own
            is_of_few = self._outliers.on_apart(peer, heard)
            if is_related and is_of_few and (len(accepted) < FEWEST or self._outliers.are_half(heard)):
                # Who has begun seconds before is far away, too, and so is the other half of a ring that was cut in
                # two: drawn near, but nothing to learn a radius from. How far a half may be, the near one does not say.
                return min(1.0, max(limit, min(1.0, self._radius) * FIRST_SHARE * own) / distance.each)
            if is_of_few or not is_related:
                raise RejectedWeights(
                    f"{peer}: its weights are {distance.each / limit:.3g} times as far away as the furthest that are "
                    "merged whole",
                    "look at that node: its training has diverged, or it does not send what it has",
                    code="distance",
                )
        accepted.append((peer, min(distance.each, limit)))
        return 1.0 if distance.each <= limit else limit / distance.each

    def _limit(self, accepted: deque[tuple[NodeId, float]], each: float, own_scale: Callable[[], float]) -> float:
        """The radius for one entry."""
        assert self._radius is not None
        if len(accepted) < FEWEST:
            usual = FIRST_SHARE * own_scale()
        else:
            usual = _usual(accepted)
            if each > self._radius * usual:
                usual = max(usual, LEAST_SHARE * own_scale())
        # Weights that are all zero say nothing of what is far, and have nothing to lose.
        return self._radius * usual if usual > 0.0 else math.inf


def _usual(accepted: deque[tuple[NodeId, float]]) -> float:
    by_peer: dict[NodeId, list[float]] = {}
    for peer, length in accepted:
        by_peer.setdefault(peer, []).append(length)
    return statistics.median_low(statistics.median_low(lengths) for lengths in by_peer.values())
