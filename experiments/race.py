"""Over equal slow links gossip is as accurate as the best parameter server in half of its time, and with fewer bytes.

Claim: with four nodes and, for the others, a server, all on links of 100 Mbit/s, gossip has the accuracy with which the
best of seven parameter-server systems ends in at most half of the time of the fastest of them; and it has the accuracy
with which each single one ends in at most half of that one's own time.

Source: the abstract of Cui, "Decentralized Deep Learning with Gradient Compression", has it "several times faster" than
a server at 300 Mbit/s in the worst case; no time to an accuracy was published. The systems are those of `docs/systems`.

All train the same `mlp` on MNIST, in batches of 64, with an iid part for each. Gossip is as the README has it for slow
links, `compress.codec: auto`, and once more with `float32`. Every node evaluates its own weights while it trains, and
its time is that without evaluations. An accuracy counts as reached when the median of the nodes' latest own ones first
comes up to it, or when a run is over whose weights are as good: a server's, or gossip's consensus after the final
merge, whose time counts. Since a consensus is there at the end only, gossip runs several times, each time for longer.
What counts is time, not steps: gossip and `adsp`, whose nodes train on without waiting, do more of them.

Links carry their rate in both directions at once. The bytes of the busiest link are, with a server, those that its
workers have received from it: whatever a push leaves out, each pull is the whole model. With gossip they are those of
the node that has received most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness.cluster import Cluster, cluster_case
from experiments.harness.course import Race
from experiments.harness.experiment import Case, Conclusion, Results, Size, experiment
from experiments.harness.promises import at_most
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, LineChart, Promise, Series
from p2pdl.report.palette import SERIES as COLOURS
from p2pdl.report.run import Column
from p2pdl.report.words import decimals, megabytes, nbytes, seconds, significant
from p2pdl.types import JsonObject

MOMENTUM_FREE = {"train": {"optimizer": {"name": "sgd", "learning_rate": 0.1, "arguments": {}}}}
GOSSIP: dict[str, tuple[str, JsonObject]] = {
    "gossip": ("gossip, codec auto", {"compress": {"codec": "auto"}}),
    "gossip-float32": ("gossip, float32", {}),
}
SERVERS: dict[str, tuple[str, JsonObject]] = {
    "bsp": ("bsp", {"server": {"policy": "bsp"}}),
    "ssp": ("ssp, staleness 3", {"server": {"policy": "ssp"}}),
    "asp": ("asp (cui-ps)", {"server": {"policy": "asp"}}),
    "tsai": ("tsai", {"server": {"policy": "ssp", "update_rule": "direction-distance"}}),
    "adsp": ("adsp", {"server": {"policy": "adsp"}, "compress": {"mask": "none"}}),
    "adacomp": (
        "adacomp, 1 %",
        {
            "server": {"policy": "asp", "update_rule": "adacomp", "rate": 1.0},
            "compress": {"sparsifier": "adacomp", "kept": 0.01, "values": "float32"},
            **MOMENTUM_FREE,
        },
    ),
    "esgd": (
        "esgd, drop 75 %",
        {
            "server": {"policy": "bsp"},
            "compress": {"sparsifier": "esgd", "kept": 0.25, "values": "float32"},
        },
    ),
}
SYSTEMS = GOSSIP | SERVERS
"""What to call them, and their settings besides those that all share."""

QUICK_ADSP = {"check_period": 1.0, "pushes": 4, "search_window": 2.0, "search_period": 30.0}
"""The preset's, for runs of seconds. Where all links are slow the defaults are right, which push a tenth as often: with
these its workers would wait for the server's link most of the time, and be three times slower."""

EQUAL, FREE, ONE = "all-100", "free", "one-300"
LINKS = {EQUAL: "all at 100 Mbit/s", FREE: "no limit", ONE: "the server, or one node, at 300 Mbit/s"}
USED = {Size.SMOKE: [EQUAL], Size.SMALL: [EQUAL, FREE], Size.PAPER: [EQUAL, FREE, ONE]}
CHOSEN = {Size.SMOKE: ["gossip"], Size.SMALL: list(SYSTEMS), Size.PAPER: list(SYSTEMS)}

WORKERS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 4}
WIDTH = {Size.SMOKE: 0.25, Size.SMALL: 1.0, Size.PAPER: 1.0}
STEPS = {Size.SMOKE: 40, Size.SMALL: 60, Size.PAPER: 1000}
"""Of each worker that waits for its server."""

LONGER = {Size.SMOKE: 4, Size.SMALL: 20, Size.PAPER: 4}
"""Of `adsp`, whose workers do not wait, so many times as many, which is still done sooner."""

LENGTHS = {
    Size.SMOKE: {EQUAL: [160]},
    Size.SMALL: {EQUAL: [600, 1200, 1500, 1800, 2400], FREE: [1200]},
    Size.PAPER: {EQUAL: [1000, 2000, 4000, 8000], FREE: [4000], ONE: [4000]},
}
"""Steps of each of gossip's runs."""

EVALUATE_EVERY = {Size.SMOKE: 0.2, Size.SMALL: 1.0, Size.PAPER: 5.0}
EVALUATION_SAMPLES = {Size.SMOKE: 300, Size.SMALL: 2000, Size.PAPER: 5000}
"""Few enough that nodes which share a machine hardly slow each other down with them."""

WANTED = 0.5
DRAWN_FROM = 0.8
"""Accuracy from which on curves are drawn: below, nothing is decided."""

MINUTES = {
    Size.SMOKE: {EQUAL: (0.2, 0.2)},
    Size.SMALL: {EQUAL: (0.45, 1.75), FREE: (0.2, 0.2)},
    Size.PAPER: {EQUAL: (4.0, 35.0), FREE: (3.0, 3.0), ONE: (4.0, 13.0)},
}
"""Of gossip, and of a system with a server."""

NOTES = [
    "All nodes share this machine's cores. Gossip keeps them busy, workers that wait for a link do not: on machines of "
    "their own gossip's nodes would gain more than a server's workers.",
    "When an accuracy is reached is known to the time between two evaluations. What a node's evaluation takes of the "
    "other nodes' processor time is not taken off.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for link in USED[size]:
        for system in CHOSEN[size]:
            found += [_case(size, system, link, steps) for steps in _lengths(size, system, link)]
    return found


def _lengths(size: Size, system: str, link: str) -> list[int]:
    """Steps of each of a system's runs."""
    if system in GOSSIP:
        return LENGTHS[size][link]
    return [STEPS[size] * (LONGER[size] if system == "adsp" else 1)]


def _case(size: Size, system: str, link: str, steps: int) -> Case:
    title, own = SYSTEMS[system]
    servers = 1 if system in SERVERS else 0
    sections: JsonObject = {
        **own,
        "strategy": "parameter-server" if servers else "gossip",
        "model": {"name": "mlp", "width": WIDTH[size]},
        "train": {"steps": steps, "batch_size": 64, **own.get("train", {})},
        "gossip": {"start_wait": 600},
        "metrics": {"evaluate_every": EVALUATE_EVERY[size], "evaluation_samples": EVALUATION_SAMPLES[size]},
    }
    if system == "adsp" and (size, link) in [(Size.SMOKE, EQUAL), (Size.SMALL, FREE)]:
        sections["server"] = own["server"] | QUICK_ADSP
    rates = {EQUAL: {"all": 100.0}, FREE: {}, ONE: {"server1" if servers else "node1": 300.0}}
    data = "digits" if size == Size.SMOKE else "mnist"
    cluster = Cluster(sections, data, nodes=WORKERS[size], servers=servers, links=rates[link])
    minutes = MINUTES[size][link][servers]
    return cluster_case(_name(system, link, steps), f"{title}, {steps} steps, {LINKS[link]}", cluster, minutes)


def _name(system: str, link: str, steps: int) -> str:
    return f"{system}-{steps}-{link}" if system in GOSSIP else f"{system}-{link}"


def conclude(size: Size, results: Results) -> Conclusion:
    races = {}
    for link in USED[size]:
        runs = {}
        for system in SYSTEMS:
            names = [_name(system, link, steps) for steps in _lengths(size, system, link)]
            runs[system] = [results[name] for name in names if name in results]
        # What a system was like while it trained is seen in its longest run.
        found = {system: figures[-1] for system, figures in runs.items() if figures}
        if found:
            races[link] = Race(found, SERVERS, {system: runs[system] for system in GOSSIP})
    equal = races.get(EQUAL)
    promises = [] if size == Size.SMOKE else _promises(equal)
    return Conclusion(_sentence(equal), promises, [_table(races)] if races else [], _charts(races), NOTES)


def _promises(race: Race | None) -> list[Promise]:
    whats = (
        "time to the best server's final accuracy, gossip / the fastest system with a server, all at 100 Mbit/s",
        "time to a server's own final accuracy, gossip / that server, the greatest of all, all at 100 Mbit/s",
    )
    if race is None or not race.fastest or "gossip" not in race.found:
        return [at_most(what, WANTED, None) for what in whats]
    shares = _shares(race)
    known = [share for share in shares.values() if share is not None]
    found = (race.share("gossip"), max(known) if len(known) == len(shares) else None)
    return [
        Promise(what, f"<= {WANTED:g}", "gossip never comes to it", False)
        if share is None
        else at_most(what, WANTED, share)
        for what, share in zip(whats, found, strict=True)
    ]


def _shares(race: Race) -> dict[str, float | None]:
    """Of each system with a server, gossip's time to its final accuracy over its own; None if gossip never has it."""
    ended = [server for server in SERVERS if server in race.found and race.found[server]["accuracy"] is not None]
    return {server: race.share_of("gossip", server) for server in ended}


def _sentence(race: Race | None) -> str:
    if race is None or not race.fastest or "gossip" not in race.found:
        return "Nothing can be compared yet."
    start = f"Over links of 100 Mbit/s the best server ({SYSTEMS[race.best][0]}) ends with {decimals(race.target, 4)}"
    theirs = "" if race.fastest == race.best else f", which {SYSTEMS[race.fastest][0]} is the first server to have,"
    start += f"{theirs} after {_seconds(race, race.fastest)}"
    share = race.share("gossip")
    if share is None:
        return f"{start}; gossip never comes to it."
    known = {server: of for server, of in _shares(race).items() if of is not None}
    hardest = max(known, key=lambda server: known[server])
    return (
        f"{start}; gossip has it after {_seconds(race, 'gossip')}, {significant(share, 2)} of the time. "
        f"To each server's own final accuracy gossip takes {significant(min(known.values()), 2)} to "
        f"{significant(known[hardest], 2)} of that server's time, the most against {SYSTEMS[hardest][0]}."
    )


def _seconds(race: Race, system: str) -> str:
    arrival = race.arrival(system, race.target)
    moved = nbytes(None if arrival is None else arrival.busiest_bytes)
    return f"{seconds(race.seconds(system, race.target))} and {moved} through the busiest link"


def _table(races: Mapping[str, Race]) -> FoundTable:
    heads = [
        *("system", "links"),
        *("accuracy in the end", "own, the nodes' median", "steps of a node"),
        *("s of training", "s to the best server's end", "MB of the busiest link to there"),
        *("MB received by a node to there", "gossip's time to its end / its own"),
    ]
    rows = []
    for link, race in races.items():
        for system, figures in race.found.items():
            course = race.courses[system]
            arrival = race.arrival(system, race.target)
            steps = max(node["summary"]["steps"] for node in figures["nodes"].values() if node["curve"])
            there: list[float | None] = [None, None, None]
            if arrival is not None:
                there = [arrival.seconds, arrival.busiest_bytes, arrival.node_bytes]
            rows.append(
                [
                    *(SYSTEMS[system][0], LINKS[link]),
                    decimals(figures["accuracy"], 4),
                    decimals(course.accuracy[-1] if len(course.accuracy) else None, 4),
                    str(steps),
                    decimals(course.seconds[-1] if len(course.seconds) else None, 1),
                    decimals(there[0], 1),
                    megabytes(there[1]),
                    megabytes(there[2]),
                    decimals(race.share_of("gossip", system), 3),
                ]
            )
    return FoundTable("Time and bytes to accuracy", heads, rows, names=2)


def _charts(races: Mapping[str, Race]) -> list[Chart]:
    """Over time at 100 Mbit/s first, then over bytes, then what each server takes to its end."""
    charts: list[Chart] = []
    if EQUAL in races:
        charts += [
            _line("race-time", "Accuracy over time", "seconds of training", races[EQUAL]),
            _line("race-bytes", "Accuracy over bytes", "MB of the busiest link", races[EQUAL]),
        ]
    pairs = [(link, race, server) for link, race in races.items() for server in SERVERS if server in race.found]
    if pairs:
        ends = [(race, server, race.found[server]["accuracy"]) for _, race, server in pairs]
        bars = [
            Bars("the system", [race.seconds(server, end) for race, server, end in ends]),
            Bars(SYSTEMS["gossip"][0], [race.seconds("gossip", end) for race, _, end in ends]),
        ]
        groups = [f"{SYSTEMS[server][0]}, {LINKS[link]}" for link, _, server in pairs]
        caption = "Until the system, and until gossip, has the accuracy that the system ends with."
        title = "Time to each server's final accuracy"
        charts.append(BarChart("race-ends", title, caption, "seconds of training", groups, bars, log=True))
    return charts


def _line(name: str, title: str, label: str, race: Race) -> LineChart:
    series = []
    for system, course in race.courses.items():
        first = course.first(DRAWN_FROM)
        if first is not None:
            places = 1e-6 * course.busiest_bytes if name == "race-bytes" else course.seconds
            series.append(Series(SYSTEMS[system][0], _rounded(places[first:]), _rounded(course.accuracy[first:])))
    is_bytes = name == "race-bytes"
    consensus = []
    for system in GOSSIP:
        ends = [(end, worth) for end, worth in race.ends(system) if worth >= DRAWN_FROM]
        if ends:
            places = np.array([1e-6 * end.busiest_bytes if is_bytes else end.seconds for end, _ in ends])
            worths = np.array([worth for _, worth in ends])
            consensus.append(Series(f"{SYSTEMS[system][0]}, consensus", _rounded(places), _rounded(worths)))
    # Where colours come round again, dashed: each consensus has the colour of its nodes' own weights.
    series[len(COLOURS) : len(COLOURS)] = consensus
    caption = f"The nodes' own weights, their median, from {DRAWN_FROM:g} on; all links at 100 Mbit/s."
    caption += " The consensus is that of runs of several lengths, each with its final merge."
    if race.best:
        caption += f" The line is where the best server ends ({SYSTEMS[race.best][0]})."
    return LineChart(name, title, caption, label, "test accuracy", series, log_x=is_bytes, level=race.target)


def _rounded(column: Column) -> list[Any]:
    return [round(float(value), 4) for value in column]


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=10)
