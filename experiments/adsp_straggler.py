"""With one worker slower than the others, ADSP comes to an accuracy before the policies that wait for it.

Claim: where one of four workers is three times slower, the server's weights reach a test accuracy of 0.95 on MNIST
under `adsp` within 0.7 of the time of the better of `bsp` and `ssp` (staleness 3).

Source: Hu, Wang, Wu, "Distributed Machine Learning through Heterogeneous Edge Systems" (2020); no figures of the paper
were at hand.

A server and four workers, real processes. Workers that share two cores have no speeds of their own, so the failpoint
`trainer.step` makes each step of theirs take 80 ms, and a multiple of that at the slow one, whatever it computes; what
it exchanges comes on top. Time begins with the first step of the first worker. An observer pulls the server's weights
once a second, as any node could, and evaluates them; the run ends when they are good enough.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from experiments.harness.experiment import Case, Conclusion, Figures, Results, Size, experiment
from experiments.harness.promises import at_most, ratio
from experiments.harness.watched import Watched, watched_case
from p2pdl.report import words
from p2pdl.report.findings import FoundTable, LineChart, Series
from p2pdl.types import JsonObject

TARGET, SLOWER = 0.7, 3.0

ADSP, WAITING = "adsp", ("bsp", "ssp")
POLICIES: dict[str, JsonObject] = {
    "bsp": {"server": {"policy": "bsp"}},
    "ssp": {"server": {"policy": "ssp", "staleness": 3}},
    "asp": {"server": {"policy": "asp"}},
    ADSP: {
        "server": {"policy": "adsp", "check_period": 1.0, "pushes": 4, "search_window": 2.0},
        "compress": {"mask": "none"},
    },
}
"""Settings besides those that all share; `asp` is there to compare, and part of no claim."""

TITLES = {"bsp": "BSP", "ssp": "SSP, staleness 3", "asp": "ASP", ADSP: "ADSP"}

MULTIPLES = {Size.SMOKE: (SLOWER,), Size.SMALL: (1.0, 2.0, 3.0, 5.0), Size.PAPER: (1.0, 2.0, 3.0, 5.0, 10.0)}
ROUNDS = {Size.SMOKE: 1, Size.SMALL: 1, Size.PAPER: 3}
EXPECTED = {"bsp": 19.0, "ssp": 17.0, "asp": 11.0, ADSP: 9.0}
"""Seconds to the accuracy on two cores with a worker three times slower, divided by three."""

NOTES = [
    "The workers' speeds are made: each step is padded to its length. The table has the steps a second that they came "
    "to, which are 12.5 for the fast ones where nobody waits and the cores are enough for all.",
    "A look lasts from one second to the next, so that each time is up to one second too long.",
]


def cases(size: Size) -> Sequence[Case]:
    if size == Size.SMOKE:
        watched = Watched(POLICIES[ADSP], "digits", 0.1, 2, 0.005, SLOWER, accuracy=0.94, limit=3.0, look=0.2)
        return [watched_case(case_name(ADSP, SLOWER), TITLES[ADSP], watched, 0.2)]
    return [
        _case(size, policy, slower, seed)
        for seed in range(ROUNDS[size])
        for slower in MULTIPLES[size]
        for policy in POLICIES
    ]


def _case(size: Size, policy: str, slower: float, seed: int) -> Case:
    watched = Watched(
        POLICIES[policy],
        "mnist",
        # At the published size the machine has cores for workers of full width.
        width=1.0 if size == Size.PAPER else 0.25,
        workers=4,
        step=0.08,
        slower=slower,
        accuracy=0.95,
        limit=60 + 30 * slower,
        seed=seed,
    )
    speeds = f"one worker {slower:g} times slower" if slower > 1 else "all alike"
    title = f"{TITLES[policy]}, {speeds}" + (f", seed {seed}" if seed else "")
    return watched_case(case_name(policy, slower, seed), title, watched, _minutes(policy, slower))


def _minutes(policy: str, slower: float) -> float:
    """Those who wait take as long as the slowest; the others are a little slower for having one worker less."""
    length = slower if policy in WAITING else 2.0 + slower / 3
    return (15.0 + EXPECTED[policy] * length) / 60


def case_name(policy: str, slower: float, seed: int = 0) -> str:
    """What a run is called."""
    return f"{policy}-{slower:g}x" + (f"-seed{seed}" if seed else "")


def conclude(size: Size, results: Results) -> Conclusion:
    times = {
        (policy, slower): _median(
            [results[name] for seed in range(3) if (name := case_name(policy, slower, seed)) in results]
        )
        for policy in POLICIES
        for slower in MULTIPLES[size]
    }
    ratios = {slower: ratio_of(times, slower) for slower in MULTIPLES[size]}
    promise = at_most(
        f"time to 0.95 with one of four {SLOWER:g} times slower, ADSP / best of BSP, SSP", TARGET, ratios[SLOWER]
    )
    if not results:
        return Conclusion("Nothing has been trained yet.", [] if size == Size.SMOKE else [promise], notes=NOTES)
    return Conclusion(
        _sentence(times, ratios),
        # A few steps on the digits say nothing of the claim.
        [] if size == Size.SMOKE else [promise],
        [_table(times, ratios, results)],
        [_by_slowness(size, times), _by_time(results)],
        NOTES,
    )


def _median(runs: Sequence[Figures]) -> float | None:
    """Of the seconds of some runs; None if there is none, or if one of them did not reach the accuracy."""
    seconds = [found["seconds"] for found in runs]
    return None if not seconds or None in seconds else statistics.median(seconds)


def ratio_of(times: Mapping[tuple[str, float], float | None], slower: float) -> float | None:
    """The time of ADSP over that of the better of those that wait; None where one of them is missing."""
    waiting = [known for policy in WAITING if (known := times.get((policy, slower))) is not None]
    return ratio(times.get((ADSP, slower)), min(waiting, default=None))


def _sentence(times: Mapping[tuple[str, float], float | None], ratios: Mapping[float, float | None]) -> str:
    parts = [f"{value:.2f} at {slower:g}x" for slower, value in ratios.items() if value is not None]
    if parts:
        return f"To 0.95 ADSP takes this share of the time of the best of BSP and SSP: {', '.join(parts)}."
    return "There is nothing to compare ADSP with yet."


def _table(
    times: Mapping[tuple[str, float], float | None], ratios: Mapping[float, float | None], results: Results
) -> FoundTable:
    rows = []
    for slower, value in ratios.items():
        for policy in POLICIES:
            found = results.get(case_name(policy, slower))
            if found is None:
                continue
            fastest, *_, slowest = found["steps_per_second"]
            rows.append(
                [
                    f"{slower:g}x",
                    TITLES[policy],
                    words.decimals(times[policy, slower], 1),
                    words.decimals(value if policy == ADSP else None, 2),
                    words.decimals(fastest, 1),
                    words.decimals(slowest, 1),
                    words.decimals(found["pushes_per_second"], 1),
                ]
            )
    heads = [
        "slowest worker",
        "policy",
        "s to accuracy",
        "of best that waits",
        "steps/s, a fast one",
        "the slow one",
        "pushes/s",
    ]
    return FoundTable("Time to a test accuracy of 0.95", heads, rows, names=2)


def _by_slowness(size: Size, times: Mapping[tuple[str, float], float | None]) -> LineChart:
    multiples = list(MULTIPLES[size])
    series = [Series(TITLES[policy], multiples, [times[policy, slower] for slower in multiples]) for policy in POLICIES]
    return LineChart(
        "slowness",
        "Time to 0.95 against how slow one worker is",
        "Seconds until the server's weights reach a test accuracy of 0.95; four workers, one of them slower.",
        "times slower",
        "seconds",
        series,
        points=True,
    )


def _by_time(results: Results) -> LineChart:
    series = [
        Series(TITLES[policy], found["looks"]["seconds"], found["looks"]["accuracy"])
        for policy in POLICIES
        if (found := results.get(case_name(policy, SLOWER))) is not None
    ]
    return LineChart(
        "accuracy",
        f"Accuracy over time, one worker {SLOWER:g} times slower",
        "Test accuracy of the server's weights, once a second until it is 0.95.",
        "seconds of training",
        "test accuracy",
        series,
        level=0.95,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=72)
