"""Exchanging a range of the model that the computation hides keeps Tsai's workers busy on a slow link.

Claim: where the server's link takes longer for the model than a step takes to be computed, workers that exchange all of
it stand still for more than half of their time; with ranges of one shard (1 MiB) for less than a tenth. `auto` finds a
longer range by itself, with which they stand still for at most 0.15 of it, and ends with better weights than ranges of
one shard. Ranges cost accuracy: after as many samples the weights are worse than with all of the model.

Source: Tsai, "Large scale deep learning parameter server" (2017): "sending less data to server", without figures.

A server on a link of 1000 Mbit/s and two workers, real processes, with the window of four iterations and the rule of
direction and distance; MNIST, an `mlp` of twice the width (12 shards), batches of 1024. A worker stands still while it
waits for its exchange, whether for the link, the server, or a slower worker.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.harness.cluster import Cluster, cluster_case
from experiments.harness.experiment import Case, Conclusion, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most, ratio
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, LineChart, Promise, Series
from p2pdl.report.words import decimals, megabytes, milliseconds
from p2pdl.types import JsonObject

MIB = 2**20
RATE = 1000.0
"""Mbit/s of the server's link."""

ALL, AUTO = "all", "auto"
RANGES = {
    Size.SMOKE: ["1"],
    Size.SMALL: ["1", "2", "4", "8", ALL, AUTO],
    Size.PAPER: ["1", "2", "4", "8", ALL, AUTO],
}
"""`server.range`; numbers are MiB, which are shards."""

WORKERS = {Size.SMOKE: 1, Size.SMALL: 2, Size.PAPER: 4}
WIDTH = {Size.SMOKE: 1.5, Size.SMALL: 2.0, Size.PAPER: 2.0}
BATCH = {Size.SMOKE: 16, Size.SMALL: 1024, Size.PAPER: 1024}
STEPS = {Size.SMOKE: 30, Size.SMALL: 600, Size.PAPER: 2400}
"""Of each worker."""

LEARNING_RATE = 0.1
"""Half of the preset's: with that, ranges of nearly the same length end at 0.63 and at 0.84 after 200 steps."""

MINUTES = {
    Size.SMOKE: {"1": 0.3},
    Size.SMALL: {"1": 0.9, "2": 1.0, "4": 1.3, "8": 1.9, ALL: 3.2, AUTO: 1.0},
    Size.PAPER: {"1": 10.0, "2": 10.0, "4": 15.0, "8": 25.0, ALL: 40.0, AUTO: 15.0},
}
"""By range."""

IDLE, BUSY, LEARNT = 0.5, 0.1, 0.15
"""The share of the time in which workers stand still: at least with all of the model, at most with 1 MiB and `auto`."""

NOTES = [
    "Two workers and the server share this machine's cores; each worker computes with its share of them.",
    "With `all` a worker pushes, pulls and then computes; with ranges the exchange goes on beside the computation, and "
    "each weight is pushed once in as many steps as there are ranges.",
    "`auto` makes an exchange as long as a step in the mean, so workers wait a little whenever one takes longer than "
    "usual; on a busy machine that is often.",
]


def cases(size: Size) -> Sequence[Case]:
    return [_case(size, chosen) for chosen in RANGES[size]]


def _case(size: Size, chosen: str) -> Case:
    sections: JsonObject = {
        "model": {"name": "mlp", "width": WIDTH[size]},
        "train": {
            "steps": STEPS[size],
            "batch_size": BATCH[size],
            "optimizer": {"name": "sgd", "learning_rate": LEARNING_RATE, "arguments": {}},
            "profile": True,
        },
        "strategy": "parameter-server",
        "server": {
            "policy": "ssp",
            "staleness": 3,
            "update_rule": "direction-distance",
            "range": int(chosen) if chosen.isdigit() else chosen,
        },
    }
    data = "digits" if size == Size.SMOKE else "mnist"
    links = None if size == Size.SMOKE else {"server1": RATE}
    cluster = Cluster(sections, data, nodes=WORKERS[size], servers=1, links=links)
    return cluster_case(_name(chosen), _title(chosen), cluster, MINUTES[size][chosen])


def _name(chosen: str) -> str:
    return f"range-{chosen}"


def _title(chosen: str) -> str:
    return f"{chosen} MiB" if chosen.isdigit() else chosen


def workers_of(found: Figures) -> list[JsonObject]:
    """The summaries of the nodes that train."""
    return [node["summary"] for name, node in found["nodes"].items() if not name.startswith("server")]


def idle(found: Figures, chosen: str) -> float:
    """Share of their time in which workers have stood still for the exchange, the mean."""
    # With all of the model nothing is computed during pushes and pulls; with ranges these go on beside, and what they
    # hold up is in the waiting.
    parts = ["wait_seconds", "publish_seconds", "pull_seconds"] if chosen == ALL else ["wait_seconds"]
    shares = [sum(worker[part] for part in parts) / worker["seconds"] for worker in workers_of(found)]
    return float(np.mean(shares))


def pulled_mib(found: Figures) -> float | None:
    """MiB of a pull, the mean."""
    summaries = workers_of(found)
    nbytes = sum(worker["bytes_received"] for worker in summaries)
    return ratio(nbytes / MIB, sum(worker["merges"] for worker in summaries))


def conclude(size: Size, results: Results) -> Conclusion:
    known = {chosen: results[_name(chosen)] for chosen in RANGES[size] if _name(chosen) in results}
    shares = {chosen: idle(found, chosen) for chosen, found in known.items()}
    accuracies = {chosen: found["accuracy"] for chosen, found in known.items()}
    tables: list[FoundTable] = []
    charts: list[Chart] = []
    if known:
        tables = [_table(known, shares)]
        charts = [_lines(known, shares), _bars(known)]
    decided = [] if size == Size.SMOKE else _promises(shares, accuracies)
    return Conclusion(_sentence(shares, accuracies), decided, tables, charts, NOTES)


def _promises(shares: dict[str, float], accuracies: dict[str, float | None]) -> list[Promise]:
    def points(better: str, worse: str) -> float | None:
        here, there = accuracies.get(better), accuracies.get(worse)
        return None if here is None or there is None else 100.0 * (here - there)

    return [
        at_least("share of the time that workers stand still, all of the model", IDLE, shares.get(ALL)),
        at_most("the same, ranges of 1 MiB", BUSY, shares.get("1")),
        at_most("the same, auto", LEARNT, shares.get(AUTO)),
        at_least("points of auto above ranges of 1 MiB after as many samples", 0.0, points(AUTO, "1")),
        at_least("points of all of the model above auto", 0.0, points(ALL, AUTO)),
    ]


def _sentence(shares: dict[str, float], accuracies: dict[str, float | None]) -> str:
    parts = []
    for chosen, share in shares.items():
        accuracy = accuracies[chosen]
        ended = "" if accuracy is None else f", accuracy {accuracy:.4f}"
        parts.append(f"{_title(chosen)} for {100 * share:.0f} % of the time{ended}")
    return f"Workers stand still, with ranges of {'; '.join(parts)}." if parts else "Nothing is measured yet."


def _table(known: dict[str, Figures], shares: dict[str, float]) -> FoundTable:
    rows = []
    for chosen, found in known.items():
        workers = workers_of(found)
        seconds = float(np.mean([worker["seconds"] for worker in workers]))
        rows.append(
            [
                _title(chosen),
                decimals(pulled_mib(found), 1),
                decimals(shares[chosen], 3),
                milliseconds(found["step"]["median"]),
                decimals(seconds, 1),
                megabytes(float(np.mean([worker["bytes_received"] for worker in workers]))),
                decimals(found["accuracy"], 4),
            ]
        )
    heads = ["range", "MiB a pull", "share idle", "ms a step", "s in all", "MB a worker pulls", "accuracy"]
    return FoundTable("A range at a time; accuracy is after as many samples", heads, rows)


def _lines(known: dict[str, Figures], shares: dict[str, float]) -> LineChart:
    given = [chosen for chosen in known if chosen != AUTO]
    ways = {"range as given": given, "auto": [AUTO] if AUTO in known else []}
    series = [
        Series(name, [pulled_mib(known[chosen]) or 0.0 for chosen in some], [shares[chosen] for chosen in some])
        for name, some in ways.items()
        if some
    ]
    return LineChart(
        "idle",
        "Idle time by the length of a range",
        "The longest range is all of the model, exchanged before the next step instead of beside it.",
        "MiB of a pull",
        "share of the time that a worker stands still",
        series,
        log_x=True,
        points=True,
    )


def _bars(known: dict[str, Figures]) -> BarChart:
    return BarChart(
        "accuracy",
        "Accuracy by the length of a range",
        "After as many samples: shorter ranges move each weight more rarely.",
        "test accuracy of the server's weights",
        [_title(chosen) for chosen in known],
        [Bars("server's weights", [found["accuracy"] for found in known.values()])],
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=75)
