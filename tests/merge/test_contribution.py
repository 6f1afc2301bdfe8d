"""The contribution rule against its formula, and where the formula has nothing to say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import RejectedWeights
from p2pdl.merge import Standing, create

UNCLAMPED = create("contribution", (0.0, 1.0))
CLAMPED = create("contribution")


def standing(loss: float, step: int = 100) -> Standing:
    return Standing(loss, 64 * step, step)


@given(own=st.floats(1e-6, 1e6), peer=st.floats(1e-6, 1e6))
def test_weight_ordinary_losses_equals_formula(own: float, peer: float) -> None:
    weight = UNCLAMPED.weight(standing(own), standing(peer))
    assert weight == pytest.approx(own / (own + peer), rel=1e-12)


@pytest.mark.parametrize(
    ("own", "peer", "expected"),
    [
        (0.3, 0.1, 0.75),
        (0.1, 0.3, 0.25),
        (1.0, 1.0, 0.5),
        (10.0, 0.1, 0.9),
        (0.1, 10.0, 0.1),
        (0.0, 0.0, 0.5),
        (0.0, 1.0, 0.1),
        (1.0, 0.0, 0.9),
        (-1.0, 0.5, 0.1),
        (1.7e308, 1.7e308, 0.5),
        (5e-324, 1.7e308, 0.1),
        (1.7e308, 5e-324, 0.9),
    ],
)
def test_weight_default_clamp_has_known_values(own: float, peer: float, expected: float) -> None:
    assert CLAMPED.weight(standing(own), standing(peer)) == pytest.approx(expected)


@pytest.mark.parametrize("own", [math.nan, math.inf, -math.inf])
def test_weight_own_loss_not_finite_gives_peer_the_high_clamp(own: float) -> None:
    assert CLAMPED.weight(standing(own, step=0), standing(2.3)) == 0.9


@pytest.mark.parametrize("own", [0.5, math.nan])
@pytest.mark.parametrize(
    ("peer", "step", "code"),
    [
        (math.nan, 0, "not-trained-yet"),
        (math.nan, 7, "loss-not-finite"),
        (math.inf, 7, "loss-not-finite"),
        (-math.inf, 7, "loss-not-finite"),
        (-0.5, 7, "loss-negative"),
    ],
)
def test_weight_unusable_peer_loss_is_refused_with_code(own: float, peer: float, step: int, code: str) -> None:
    with pytest.raises(RejectedWeights) as caught:
        CLAMPED.weight(standing(own), standing(peer, step))
    assert caught.value.code == code
    assert caught.value.remedy


@pytest.mark.parametrize("clamp", [(-0.1, 0.9), (0.1, 1.1), (0.9, 0.1), (math.nan, 0.9), (0.1, math.nan)])
def test_create_wrong_clamp_is_refused(clamp: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 <= low <= high <= 1"):
        create("contribution", clamp)
