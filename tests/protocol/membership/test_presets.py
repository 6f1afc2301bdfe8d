"""Presets: the published values, their formulas, and values that could not work."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from p2pdl.protocol.membership.presets import PRESETS


def test_presets_are_those_that_a_configuration_names() -> None:
    assert list(PRESETS) == ["local", "lan", "wan"]
    lan, wan = PRESETS["lan"], PRESETS["wan"]
    assert (lan.probe_interval, lan.probe_timeout, lan.relays, lan.sync_interval) == (1.0, 0.5, 3, 30.0)
    assert (wan.probe_interval, wan.probe_timeout, wan.relays, wan.sync_interval) == (5.0, 3.0, 3, 60.0)
    assert {settings.forget_after for settings in PRESETS.values()} == {24 * 3600.0}


@pytest.mark.parametrize("members, shortest", [(1, 4.0), (2, 4.0), (10, 4.0), (100, 8.0), (1000, 12.0)])
def test_suspicion_of_many_lasts_the_logarithm_of_the_members(members: int, shortest: float) -> None:
    lan = PRESETS["lan"]
    assert lan.shortest_suspicion(members) == pytest.approx(shortest)
    assert lan.longest_suspicion(members) == pytest.approx(6 * shortest)


@pytest.mark.parametrize("members, sends", [(1, 4), (9, 4), (10, 8), (99, 8), (100, 12), (999, 12)])
def test_sends_of_a_rumour_grow_with_the_logarithm_of_the_members(members: int, sends: int) -> None:
    assert PRESETS["lan"].sends(members) == sends


@pytest.mark.parametrize("field", list(PRESETS["lan"].__dataclass_fields__))
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_setting_that_could_not_work_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be above 0 and finite"):
        replace(PRESETS["lan"], **{field: value})


def test_timeout_must_leave_time_for_relays() -> None:
    with pytest.raises(ValueError, match="probe_timeout must be below probe_interval"):
        replace(PRESETS["lan"], probe_timeout=1.0)


def test_lonely_suspicion_may_not_be_shorter_than_a_shared_one() -> None:
    with pytest.raises(ValueError, match="suspicion_stretch must be 1 at least"):
        replace(PRESETS["lan"], suspicion_stretch=0.5)
