"""How long a suspicion lasts, against Lifeguard's formula, and how far a node trusts itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.membership.health import HIGHEST_MULTIPLIER, Health
from p2pdl.protocol.membership.suspicion import Suspicion
from tests.protocol.membership.driving import LAN

SHORTEST, LONGEST = 8.0, 48.0
"""Of 100 members under LAN settings, where K = 2 confirmations are expected."""


@pytest.mark.parametrize("confirmations", [0, 1, 2])
def test_suspicion_shrinks_with_independent_accusers(confirmations: int) -> None:
    suspicion = Suspicion("b", 1000.0, 100, LAN)
    for accuser in ["c", "d"][:confirmations]:
        assert suspicion.confirm(accuser)
    expected = max(SHORTEST, LONGEST - (LONGEST - SHORTEST) * math.log(confirmations + 1) / math.log(3))
    assert suspicion.deadline == pytest.approx(1000.0 + expected)
    assert suspicion.accusers == set("bcd"[: confirmations + 1])


def test_suspicion_counts_an_accuser_once_and_no_more_than_expected() -> None:
    suspicion = Suspicion("b", 0.0, 100, LAN)
    assert not suspicion.confirm("b")
    assert not suspicion.confirm("")
    assert suspicion.deadline == pytest.approx(LONGEST)
    assert suspicion.confirm("c") and not suspicion.confirm("c") and suspicion.confirm("d")
    assert not suspicion.confirm("e"), "enough is known, and nobody needs to hear more"
    assert suspicion.deadline == pytest.approx(SHORTEST)


def test_suspicion_by_hearsay_has_no_accuser_until_somebody_has_tried() -> None:
    suspicion = Suspicion("", 0.0, 100, LAN)
    assert suspicion.accusers == set()
    assert suspicion.confirm("b") and suspicion.deadline == pytest.approx(LONGEST)
    assert suspicion.confirm("c") and suspicion.deadline < LONGEST


@pytest.mark.parametrize("members", [2, 3])
def test_suspicion_among_too_few_to_confirm_it_is_short_at_once(members: int) -> None:
    assert Suspicion("b", 0.0, members, LAN).deadline == pytest.approx(4.0)
    assert Suspicion("b", 0.0, 4, LAN).deadline == pytest.approx(24.0)


def test_suspicion_does_not_count_time_in_which_the_node_did_not_run() -> None:
    suspicion = Suspicion("b", 0.0, 100, LAN)
    suspicion.postpone(3600.0)
    assert suspicion.deadline == pytest.approx(3600.0 + LONGEST)


@given(st.lists(st.sampled_from(["better", "worse", "worst"]) | st.integers(0, 20), max_size=30))
def test_health_stays_between_one_and_eight_times(events: list[str | int]) -> None:
    health, score = Health(), 0
    for event in events:
        match event:
            case "better":
                health.better()
                score = max(0, score - 1)
            case "worse":
                health.worse()
                score = min(7, score + 1)
            case "worst":
                health.worst()
                score = 7
            case int(by):
                health.worse(by)
                score = min(7, score + by)
        assert (health.score, health.multiplier) == (score, score + 1)
        assert 1 <= health.multiplier <= HIGHEST_MULTIPLIER == 8
