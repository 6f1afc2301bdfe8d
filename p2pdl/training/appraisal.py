"""How much of what a peer has sent is taken: by its loss, by its distance, and a newcomer by a look at the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from p2pdl.errors import PeerRefused, RejectedWeights
from p2pdl.merge import Claims, Clipping, MergeRule, Outliers, Standing, is_newcomer
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.puller.inbox import Inbox
from p2pdl.types import Float32Vector, NodeId


class Judge(Protocol):
    """Measures on data of this node's own what weights are worth; see `Judgement`."""

    def own_loss(self, step: int) -> float:
        """The loss of this node's own weights on the batch that it trains on after so many steps."""
        ...

    def loss_of(self, write: Callable[[Float32Vector], object], step: int) -> float:
        """The loss on the same batch of the weights that `write` writes into a vector of the model's layout."""
        ...


@dataclass(frozen=True, slots=True)
class Appraisal:
    """How much of a peer's model is to be taken.

    Attributes:
        share: The rule's share of the peer against this node.
        factor: By what the difference from the peer is shortened; None if its weights are to be taken whole.
        loss: The peer's loss, as it is believed or was measured.
    """

    share: float
    factor: float | None
    loss: float


class Appraiser:
    """Weighs what has come.

    Args:
        rule: How much of a peer's model to take.
        clip: The radius of `Clipping`, in usual distances; None for none.
        measured: True to weigh peers by losses that this node measures itself, not by those that they claim.
        judge: Measures; None where this node has no data at hand to do so, and takes a peer's weights whole, as a
            newcomer does, without a look at them.
        answering: The peers that can be heard of at all.
    """

    def __init__(
        self,
        rule: MergeRule,
        clip: float | None,
        measured: bool,
        judge: Judge | None,
        answering: Callable[[], Collection[NodeId]],
    ) -> None:
        if measured and judge is None:
            raise ValueError("losses are to be measured, and there is nobody to measure them")
        self._rule = rule
        self._measured = measured
        self._judge = judge
        self._answering = answering
        self._claims = Claims()
        self._clipping = Clipping(clip)
        self._worse = Outliers()

    def appraise(
        self, peer: NodeId, snapshot: SnapshotReply, own: Standing, inbox: Inbox, part: range | None, newcomer: bool
    ) -> Appraisal:
        """Weigh a model that has arrived.

        Args:
            peer: Whose it is.
            snapshot: What the peer says of it.
            own: How far this node's own model has come.
            inbox: Where it is.
            part: Which shards were pulled; all where None.
            newcomer: True if this node should rather begin from the peer's weights.

        Raises:
            PeerError: Nothing of it may be taken; `code` says why.
        """
        if snapshot.loss is None and snapshot.step == 0:
            raise PeerRefused(f"{peer}: has not trained yet", code="not-trained-yet")
        if snapshot.loss is None:
            raise RejectedWeights(
                f"{peer}: has no loss after {snapshot.step} steps: its training has diverged",
                "lower train.optimizer.learning_rate, on that node at least",
                code="loss-not-finite",
            )
        ours = own.loss
        if self._measured:
            ours, theirs = self._measure(inbox, own.step)
        else:
            theirs = self._claims.believe(peer, snapshot.loss, ours)
        share = self._rule.weight(
            Standing(ours, own.samples, own.step), Standing(theirs, snapshot.samples, snapshot.step)
        )
        if newcomer and (loss := self._loss_to_adopt(peer, snapshot, snapshot.loss, inbox, own.step)) is not None:
            return Appraisal(share, None, loss)
        try:
            factor = self._clipping.factor(peer, inbox.distance, inbox.own_scale, self._answering, part)
        except RejectedWeights as error:
            if is_newcomer(snapshot.step, own.step, merges=0):
                # It will take somebody's weights whole before long; what it has until then is no fault of its own.
                raise PeerRefused(f"{peer}: has only just begun, at step {snapshot.step}", code="newcomer") from error
            raise
        return Appraisal(share, factor, theirs)

    def _measure(self, inbox: Inbox, step: int) -> tuple[float, float]:
        """The own loss and the peer's, on one batch."""
        assert self._judge is not None
        return self._judge.own_loss(step), self._judge.loss_of(inbox.write_peer, step)

    def _loss_to_adopt(
        self, peer: NodeId, snapshot: SnapshotReply, claimed: float, inbox: Inbox, step: int
    ) -> float | None:
        """The loss of a peer's weights, if they are at least as good as the own ones.

        None if they are not and most other peers' are not either: this node's data are unlike theirs then, and it
        merges from now on as a node does that is no newcomer.

        Raises:
            RejectedWeights: They are worse (`worse`).
        """
        if self._judge is None:
            return claimed
        own, theirs = self._measure(inbox, step)
        if math.isfinite(theirs) and not theirs > own:
            return theirs
        if math.isfinite(theirs) and not self._worse.on_apart(peer, self._answering()):
            return None
        raise RejectedWeights(
            f"{peer}: says that it has done {snapshot.step} steps with a loss of {claimed:.3g}, but its weights "
            f"have a loss of {theirs:.3g} on data of this node, whose own have {own:.3g}",
            "look at that node: it does not send what it has, or has been trained on very different data",
            code="worse",
        )
