"""What every merge rule must do, whatever its formula."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import RejectedWeights
from p2pdl.merge import MERGE_RULES, Standing, create

EVERY_RULE = pytest.mark.parametrize("name", MERGE_RULES)
LOSSES = st.floats(min_value=0.0, allow_infinity=False)
COUNTS = st.integers(0, 10**9)
PEERS = st.builds(Standing, LOSSES, COUNTS, COUNTS)
NODES = st.builds(Standing, st.floats(), COUNTS, COUNTS)
CLAMPS = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(lambda pair: (min(pair), max(pair)))


@EVERY_RULE
@given(own=NODES, peer=PEERS)
def test_weight_any_standings_is_a_share_and_repeatable(name: str, own: Standing, peer: Standing) -> None:
    rule = create(name)
    weight = rule.weight(own, peer)
    assert isinstance(weight, float)
    assert 0.0 <= weight <= 1.0
    assert rule.weight(own, peer) == weight


@EVERY_RULE
@given(own=PEERS, peer=PEERS)
def test_weight_both_sides_share_one_whole(name: str, own: Standing, peer: Standing) -> None:
    rule = create(name)
    assert rule.weight(own, peer) + rule.weight(peer, own) == pytest.approx(1.0)


@EVERY_RULE
@given(own=PEERS, peer=PEERS, worse=LOSSES)
def test_weight_worse_peer_never_counts_more(name: str, own: Standing, peer: Standing, worse: float) -> None:
    rule = create(name)
    worst = Standing(max(worse, peer.loss), peer.samples, peer.step)
    assert rule.weight(own, worst) <= rule.weight(own, peer)


@EVERY_RULE
@given(loss=LOSSES, samples=COUNTS, step=COUNTS)
def test_weight_equal_standings_is_one_half(name: str, loss: float, samples: int, step: int) -> None:
    standing = Standing(loss, samples, step)
    assert create(name).weight(standing, standing) == 0.5


@EVERY_RULE
@given(own=NODES, loss=st.sampled_from([math.nan, math.inf, -math.inf, -1e-9]), step=COUNTS)
def test_weight_unusable_peer_is_refused_or_does_not_matter(name: str, own: Standing, loss: float, step: int) -> None:
    rule, peer = create(name), Standing(loss, 64, step)
    try:
        assert rule.weight(own, peer) == rule.weight(own, Standing(1.0, 64, step))
    except RejectedWeights as refusal:
        assert refusal.code in {"not-trained-yet", "loss-not-finite", "loss-negative"}
        assert refusal.remedy


@given(clamp=CLAMPS, own=NODES, peer=PEERS)
def test_contribution_any_clamp_bounds_the_weight(clamp: tuple[float, float], own: Standing, peer: Standing) -> None:
    assert clamp[0] <= create("contribution", clamp).weight(own, peer) <= clamp[1]


def test_create_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'median'.*mean, contribution"):
        create("median")
