"""The experiment of the slow worker: its figures against numbers made by hand, and its configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.adsp_straggler import ADSP, POLICIES, case_name, cases, conclude
from experiments.harness.experiment import Figures, Size
from experiments.harness.watched import Watched, configured, figures
from experiments.observed_server import Look, Seen


def seen(*looks: tuple[float, float]) -> Seen:
    made = [Look(moment, number, accuracy) for number, (moment, accuracy) in enumerate(looks)]
    return Seen(made, {"worker1": 25.0, "worker2": 8.0}, {"pushes": 30})


def reached(seconds: float | None) -> Figures:
    return figures(seen((1.0, 0.2), (seconds or 9.0, 0.96 if seconds else 0.4)), 0.95)


def results(slower: float, **seconds: float | None) -> dict[str, Figures]:
    return {case_name(policy, slower): reached(time) for policy, time in seconds.items()}


def test_time_is_that_of_the_look_that_has_reached_the_accuracy() -> None:
    found = figures(seen((1.0, 0.8), (2.0, 0.94), (3.0, 0.95)), 0.95)
    assert (found["seconds"], found["pushes_per_second"], found["steps_per_second"]) == (3.0, 10.0, [25.0, 8.0])
    assert found["looks"] == {"seconds": [1.0, 2.0, 3.0], "accuracy": [0.8, 0.94, 0.95]}
    assert figures(seen((1.0, 0.8), (2.0, 0.94)), 0.95)["seconds"] is None


@pytest.mark.parametrize(
    "seconds, found, holds",
    [
        ({"bsp": 10.0, "ssp": 8.0, "asp": 1.0, "adsp": 4.0}, "0.5", True),
        ({"bsp": 10.0, "ssp": None, "adsp": 7.0}, "0.7", True),
        ({"bsp": 10.0, "ssp": 12.0, "adsp": 7.1}, "0.71", False),
        ({"bsp": 10.0, "adsp": None}, "", None),
        ({"asp": 1.0, "adsp": 4.0}, "", None),
        ({"bsp": 10.0, "ssp": 12.0}, "", None),
    ],
)
def test_claim_is_about_the_better_of_those_that_wait(
    seconds: dict[str, float | None], found: str, holds: bool | None
) -> None:
    [promise] = conclude(Size.SMALL, results(3.0, **seconds)).promises
    assert (promise.found, promise.holds) == (found, holds)


def test_other_slownesses_are_shown_and_decide_nothing() -> None:
    found = conclude(Size.SMALL, results(5.0, bsp=10.0, adsp=9.0) | results(1.0, ssp=4.0, adsp=5.0))
    assert found.promises[0].holds is None
    assert "1.25 at 1x, 0.90 at 5x" in found.sentence
    times = {series.name: series.y for series in found.charts[0].series}
    assert times["ADSP"] == [5.0, None, None, 9.0] and times["BSP"] == [None, None, None, 10.0]


def test_several_rounds_count_by_their_median_and_not_at_all_where_one_fell_short() -> None:
    rounds = {case_name(ADSP, 3.0, seed): reached(time) for seed, time in enumerate((2.0, 6.0, 3.0))}
    assert conclude(Size.PAPER, {**rounds, **results(3.0, bsp=10.0), **rounds}).promises[0].found == "0.3"
    rounds[case_name(ADSP, 3.0, 1)] = reached(None)
    assert conclude(Size.PAPER, {**results(3.0, bsp=10.0), **rounds}).promises[0].holds is None


@pytest.mark.parametrize("policy", POLICIES)
def test_configuration_is_accepted_and_has_the_policy(policy: str, tmp_path: Path) -> None:
    watched = Watched(POLICIES[policy], "digits", 0.1, 2, 0.005, 3.0, accuracy=0.5, limit=4.0, seed=7)
    configuration = configured(watched, tmp_path)
    assert configuration.server.policy == policy
    assert (configuration.train.seed, configuration.train.threads) == (7, 1)
    assert len(configuration.founders) == 2 and len(configuration.servers) == 1


def test_every_policy_runs_at_every_slowness() -> None:
    names = [case.name for case in cases(Size.SMALL)]
    assert names == [case_name(policy, slower) for slower in (1.0, 2.0, 3.0, 5.0) for policy in POLICIES]
