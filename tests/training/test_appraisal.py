"""How much of a peer's model is taken: claims, measured losses, distances, and a newcomer's look at the weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from p2pdl.errors import PeerError, RejectedWeights
from p2pdl.merge import DEFAULT_CLIP, Standing, create
from p2pdl.merge.clipping import FIRST_SHARE
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.puller.inbox import Inbox
from p2pdl.spec import WeightSpec
from p2pdl.training.appraisal import Appraisal, Appraiser
from p2pdl.types import Float32Vector

SPEC = WeightSpec.layout([("kernel", (64,), "float32", True)])
BASE = np.ones(64, np.float32)
OWN = Standing(0.6, 640, 10)
PEERS = ["a", "b", "c", "d"]


class QuadraticJudge:
    """The loss of weights is the mean square of their distance from a target."""

    def __init__(self, target: float) -> None:
        self._target = target
        self.steps: list[int] = []

    def own_loss(self, step: int) -> float:
        return self.loss_of(lambda out: np.copyto(out, BASE), step)

    def loss_of(self, write: Callable[[Float32Vector], object], step: int) -> float:
        self.steps.append(step)
        weights = np.empty(64, np.float32)
        write(weights)
        return float(np.mean((weights.astype(np.float64) - self._target) ** 2))


def appraiser(judge: QuadraticJudge | None = None, measured: bool = False, rule: str = "contribution") -> Appraiser:
    return Appraiser(create(rule), DEFAULT_CLIP, measured, judge, lambda: PEERS)


def appraise(
    found: Appraiser,
    peer: str,
    weights: float,
    loss: float | None = 0.2,
    step: int = 12,
    newcomer: bool = False,
    own: Standing = OWN,
) -> Appraisal:
    """What is found of a peer whose weights are all the same."""
    inbox = Inbox(SPEC)
    inbox.expect(BASE, raw=newcomer)
    inbox.accept(0, np.full(64, weights, np.float32))
    snapshot = SnapshotReply("life", 1, step, 64 * step, loss, False, 1, 64, 0.0)
    return found.appraise(peer, snapshot, own, inbox, None, newcomer)


def test_claimed_loss_decides_the_share_and_the_distance_the_factor() -> None:
    found = appraise(appraiser(), "a", 1.01)
    assert (found.share, found.factor, found.loss) == (pytest.approx(0.75), 1.0, 0.2)
    assert appraise(appraiser(), "a", 1.3).factor == pytest.approx(DEFAULT_CLIP * FIRST_SHARE / 0.3, rel=1e-5)


def test_liar_among_honest_peers_gets_the_share_of_the_best_of_them() -> None:
    found = appraiser()
    for _ in range(10):
        for peer, loss in (("a", 0.3), ("b", 0.4), ("c", 0.5)):
            appraise(found, peer, 1.001, loss)
    assert appraise(found, "d", 1.001, 0.0).share == pytest.approx(0.6 / 0.9)
    assert appraise(found, "d", 1.001, 1e6).share == pytest.approx(0.6 / 1.1)


@pytest.mark.parametrize(
    "loss, step, code",
    [(None, 0, "not-trained-yet"), (None, 7, "loss-not-finite"), (-0.1, 7, "loss-negative")],
)
def test_claim_that_is_no_loss_is_refused(loss: float | None, step: int, code: str) -> None:
    with pytest.raises(PeerError) as refusal:
        appraise(appraiser(), "a", 1.0, loss, step)
    assert refusal.value.code == code


def test_measured_losses_leave_nothing_to_claim() -> None:
    judge = QuadraticJudge(target=1.02)
    found = appraiser(judge, measured=True)
    # The own weights have a loss of 0.02 ** 2, the peer's of 0.01 ** 2.
    better = appraise(found, "a", 1.01, loss=1e6)
    assert better.share == pytest.approx(0.8, rel=1e-4) and better.loss == pytest.approx(1e-4, rel=1e-4)
    worse = appraise(found, "b", 0.98, loss=0.0)
    assert worse.share == pytest.approx(0.2, rel=1e-4)
    assert judge.steps == [OWN.step] * 4


def test_measuring_needs_somebody_who_measures() -> None:
    with pytest.raises(ValueError, match="nobody to measure"):
        appraiser(None, measured=True)


@pytest.mark.parametrize("peers", [1.5, 1.0])
def test_newcomer_takes_weights_that_are_at_least_as_good_whole_and_their_measured_loss(peers: float) -> None:
    found = appraise(appraiser(QuadraticJudge(2.0)), "a", peers, 0.001, step=1000, newcomer=True)
    assert found.factor is None and found.loss == pytest.approx((2.0 - peers) ** 2)


def test_newcomer_without_data_of_its_own_takes_the_peer_at_its_word() -> None:
    found = appraise(appraiser(), "a", 9.0, 0.125, step=1000, newcomer=True)
    assert found.factor is None and found.loss == 0.125


@pytest.mark.parametrize("weights", [-1.0, 1000.0])
def test_newcomer_refuses_worse_weights_whatever_their_claims(weights: float) -> None:
    with pytest.raises(RejectedWeights, match="a: says that it has done 1000000 steps with a loss of 0, ") as refusal:
        appraise(appraiser(QuadraticJudge(1.1)), "a", weights, 0.0, step=10**6, newcomer=True)
    assert refusal.value.code == "worse" and refusal.value.remedy


def test_newcomer_refuses_weights_without_a_finite_loss_even_if_all_peers_have_such() -> None:
    class Nothing(QuadraticJudge):
        def loss_of(self, write: Callable[[Float32Vector], object], step: int) -> float:
            return math.nan

    found = appraiser(Nothing(1.0))
    for peer in PEERS * 2:
        with pytest.raises(RejectedWeights) as refusal:
            appraise(found, peer, 1.001, step=1000, newcomer=True)
        assert refusal.value.code == "worse"


def test_newcomer_whose_data_are_unlike_the_others_merges_with_them_in_the_end() -> None:
    found = appraiser(QuadraticJudge(1.0))
    for peer in PEERS[:2]:
        with pytest.raises(RejectedWeights):
            appraise(found, peer, 1.01, step=1000, newcomer=True)
    merged = appraise(found, "c", 1.01, step=1000, newcomer=True)
    assert (merged.factor, merged.loss) == (1.0, 0.2)


@pytest.mark.parametrize("step, code", [(4, "newcomer"), (90, "distance")])
def test_peer_that_is_far_away_because_it_has_only_just_begun_has_done_nothing_wrong(step: int, code: str) -> None:
    with pytest.raises(PeerError) as refusal:
        appraise(appraiser(), "a", 9.0, step=step, own=Standing(0.6, 6400, 100))
    assert refusal.value.code == code
