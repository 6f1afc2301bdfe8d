"""Claimed losses: held within what the others say, so that a lie gains no more than the best honest loss would."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.merge import Claims, Standing, create
from p2pdl.merge.claims import FEWEST, HIGHEST, LOWEST, WINDOW

LOSSES = st.floats(0.0, 1e6)
PEERS = ["a", "b", "c", "liar"]
HEARD = st.lists(st.tuples(st.sampled_from(PEERS), LOSSES), max_size=70)


@given(heard=HEARD, own=st.one_of(LOSSES, st.just(math.nan)), claimed=LOSSES)
def test_claim_is_clamped_to_the_quantiles_of_the_other_claims_by_numpy(
    heard: list[tuple[str, float]], own: float, claimed: float
) -> None:
    claims = Claims()
    for peer, loss in heard:
        claims.believe(peer, loss, math.nan)
    others = [loss for peer, loss in heard[-WINDOW:] if peer != "liar"] + ([own] if math.isfinite(own) else [])
    believed = claims.believe("liar", claimed, own)
    if len(others) < FEWEST:
        assert believed == claimed
    else:
        low, high = np.quantile(others, [LOWEST, HIGHEST])
        assert believed == pytest.approx(min(max(claimed, low), high), rel=1e-12, abs=1e-300)


@given(
    honest=st.lists(st.tuples(st.sampled_from(PEERS[:-1]), st.floats(1e-3, 1e3)), min_size=FEWEST, max_size=40),
    own=st.floats(1e-3, 1e3),
    lies=st.lists(st.sampled_from([0.0, 1e-9, 1e300]), max_size=9),
    lie=st.sampled_from([0.0, 1e-12]),
)
def test_liar_gets_no_more_than_the_best_honest_peer(
    honest: list[tuple[str, float]], own: float, lies: list[float], lie: float
) -> None:
    claims, rule = Claims(), create("contribution", (0.0, 1.0))
    for number, (peer, loss) in enumerate(honest):
        claims.believe(peer, loss, own)
        if number < len(lies):
            claims.believe("liar", lies[number], own)
    best = min(own, *(loss for _, loss in honest))
    mine = Standing(own, 64, 1)
    share = rule.weight(mine, Standing(claims.believe("liar", lie, own), 64, 1))
    assert share <= rule.weight(mine, Standing(best, 64, 1)) + 1e-12


@pytest.mark.parametrize("claimed", [-0.5, math.nan, math.inf, -math.inf])
def test_claim_that_is_no_loss_is_left_to_the_rule_and_not_counted(claimed: float) -> None:
    claims = Claims()
    for _ in range(10):
        claims.believe("a", 1.0, 1.0)
    for _ in range(WINDOW):
        assert claims.believe("liar", claimed, 1.0) is claimed
    assert claims.believe("b", 0.0, 1.0) == 1.0


def test_first_claims_are_taken_as_they_are() -> None:
    claims = Claims()
    for number in range(FEWEST - 2):
        assert claims.believe("a", 1.0 + number, 0.5) == 1.0 + number
        assert claims.believe("b", 0.0, 0.5) == 0.0


def test_claim_of_a_huge_loss_is_held_at_what_the_worst_others_say() -> None:
    claims, rule = Claims(), create("contribution", (0.0, 1.0))
    for _ in range(10):
        for number, peer in enumerate("abc"):
            claims.believe(peer, 1.0 + number, 2.0)
    believed = claims.believe("liar", 1e300, 2.0)
    assert believed == 3.0
    assert rule.weight(Standing(2.0, 64, 1), Standing(believed, 64, 1)) == pytest.approx(0.4)


def test_old_claims_are_forgotten() -> None:
    claims = Claims()
    for loss in (9.0, 1.0):
        for _ in range(WINDOW):
            claims.believe("a", loss, math.nan)
    assert claims.believe("b", 5.0, math.nan) == 1.0
