"""The slower the links, the longer a batch takes with a parameter server; with gossip it takes the same at any rate.

Claim: from no limit down to 50 Mbit/s, on the link of one node or on all of them, the median batch of gossip becomes at
most 1.05 times as long. A batch with an asynchronous parameter server takes at least 1.06 times as long as one of
gossip where its server has 300 Mbit/s, and more the slower the link.

Source: Cui, "Decentralized Deep Learning with Gradient Compression", Table I, which has the one rate of 300 Mbit/s:
1.06 to 5.81 times. The other rates were not published.

Four workers train a VGG-19 on noise, as only times are of interest, and only those while all of them are training. The
centralized systems are p2pdl's own asynchronous server (`asp`) and TensorFlow's ParameterServerStrategy. The weights
travel in float32 with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.harness.cluster import Cluster, cluster_case
from experiments.harness.experiment import Case, Conclusion, Results, Size, experiment
from experiments.harness.peers import SERVER, Peer, peer_case
from experiments.harness.promises import at_least, at_most, ratio
from p2pdl.report.findings import FoundTable, LineChart, Series
from p2pdl.report.words import decimals, significant
from p2pdl.types import JsonObject

SYSTEMS = {"gossip": "gossip", "asp": "p2pdl, asp", "tensorflow": "TensorFlow's server"}
ONE, ALL = "one", "all"
PLACES = {ONE: "one link", ALL: "all links"}
"""Which links are limited: the server's, or the first node's, or everybody's."""

EVERY = (50.0, 100.0, 300.0, 1000.0)
OURS = {Size.SMOKE: ["asp"], Size.SMALL: ["gossip", "asp"], Size.PAPER: ["gossip", "asp"]}
"""Systems of p2pdl."""

RATES: dict[Size, dict[str, tuple[float, ...]]] = {
    Size.SMOKE: {ONE: (100.0,), ALL: ()},
    Size.SMALL: {ONE: EVERY, ALL: (50.0, 300.0)},
    Size.PAPER: {ONE: EVERY, ALL: EVERY},
}
"""Mbit/s; besides there is no limit."""

THEIRS: dict[Size, list[tuple[str, float | None]]] = {
    Size.SMOKE: [],
    Size.SMALL: [(ONE, 300.0)],
    Size.PAPER: [(ONE, None), *((place, rate) for place in PLACES for rate in EVERY)],
}
"""Where TensorFlow's server is measured."""

SLOWEST, PUBLISHED = 50.0, 300.0
NO_LIMIT = 10_000.0
"""Where that is drawn."""

MODEL = {Size.SMOKE: ("mlp", 0.25), Size.SMALL: ("vgg19", 0.25), Size.PAPER: ("vgg19", 1.0)}
DATA = {"mlp": "noise-mnist", "vgg19": "noise-cifar10"}
WORKERS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 4}
BATCH = 32
STEPS = {Size.SMOKE: 30, Size.SMALL: 50, Size.PAPER: 200}
"""Of each worker that hardly waits."""

LONGER = 3
"""Gossip's nodes take so many times as many: small differences are looked for."""

BEFORE, AFTER = "", "-after"
"""Gossip's runs without a limit are before and after its others, since a machine's speed drifts by more than those
differences; the mean of both counts."""

STEPS_OF_SERVERS = {50.0: 0.25, 100.0: 0.4, 300.0: 0.8}
"""The share of these steps that a worker does whose server has so many Mbit/s: a few tell enough of such long ones."""

MINUTES = {
    Size.SMOKE: {"asp": 0.2},
    Size.SMALL: {"gossip": 1.1, "asp": 1.1, "tensorflow": 1.7},
    Size.PAPER: {"gossip": 36.0, "asp": 25.0, "tensorflow": 40.0},
}
NOTES = [
    "All workers share this machine's cores, so a batch takes longer than on machines of their own, and what a "
    "transfer adds to it is a smaller share.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for system in OURS[size]:
        limited = [_ours(size, system, place, rate) for place, rates in RATES[size].items() for rate in rates]
        if size == Size.SMOKE:
            found += limited
        elif system == "gossip":
            found += [_ours(size, system, ONE, None), *limited, _ours(size, system, ONE, None, AFTER)]
        else:
            found += [*limited, _ours(size, system, ONE, None)]
    return [*found, *(_theirs(size, place, rate) for place, rate in THEIRS[size])]


def _ours(size: Size, system: str, place: str, rate: float | None, when: str = BEFORE) -> Case:
    """One of p2pdl's systems."""
    servers = 1 if system == "asp" else 0
    model, width = MODEL[size]
    sections: JsonObject = {
        "model": {"name": model, "width": width},
        "train": {
            "steps": _steps(size, system, rate),
            "batch_size": BATCH,
            # Low, so that no noise makes a run diverge.
            "optimizer": {"learning_rate": 0.001},
            "profile": True,
        },
        "metrics": {"evaluation_samples": 10},
    }
    if servers:
        sections |= {"strategy": "parameter-server", "server": {"policy": "asp"}}
    else:
        # The final merge belongs to no batch.
        sections |= {"strategy": "gossip", "gossip": {"final_merge": False, "start_wait": 600}}
    links = {} if rate is None else {"all" if place == ALL else "server1" if servers else "node1": rate}
    cluster = Cluster(sections, DATA[model], nodes=WORKERS[size], servers=servers, links=links)
    title = _title(system, place, rate) + (", once more" if when == AFTER else "")
    return cluster_case(_name(system, place, rate, when), title, cluster, MINUTES[size][system])


def _theirs(size: Size, place: str, rate: float | None) -> Case:
    """TensorFlow's server."""
    model, width = MODEL[size]
    peer = Peer(
        model=model,
        width=width,
        data=DATA[model],
        batch=BATCH,
        steps=_steps(size, "tensorflow", rate),
        workers=WORKERS[size],
        links={} if rate is None else {"all" if place == ALL else SERVER: rate},
        learning_rate=0.001,
    )
    system = "tensorflow"
    return peer_case(_name(system, place, rate), _title(system, place, rate), peer, MINUTES[size][system])


def _steps(size: Size, system: str, rate: float | None) -> int:
    if system == "gossip":
        return STEPS[size] * LONGER
    return round(STEPS[size] * (1.0 if rate is None else STEPS_OF_SERVERS.get(rate, 1.0)))


def _name(system: str, place: str, rate: float | None, when: str = BEFORE) -> str:
    return f"{system}-free{when}" if rate is None else f"{system}-{place}-{rate:g}"


def _title(system: str, place: str, rate: float | None) -> str:
    where = "no limit" if rate is None else f"{PLACES[place]} at {rate:g} Mbit/s"
    return f"{SYSTEMS[system]}, {where}"


def conclude(size: Size, results: Results) -> Conclusion:
    def of(system: str, place: str, rate: float | None, when: str = BEFORE) -> float | None:
        found = results.get(_name(system, place, rate, when))
        return found["step"]["median"] if found is not None else None

    unlimited = [of("gossip", ONE, None, when) for when in (BEFORE, AFTER)]
    known = [median for median in unlimited if median is not None]
    free = sum(known) / len(known) if len(known) == len(unlimited) else None
    grown = {place: ratio(of("gossip", place, SLOWEST), free) for place in PLACES}
    over = {rate: ratio(of("asp", ONE, rate), of("gossip", ONE, rate)) for rate in RATES[size][ONE]}
    theirs = ratio(of("tensorflow", ONE, PUBLISHED), of("gossip", ONE, PUBLISHED))
    promises = [
        *(
            at_most(f"gossip, {PLACES[place]} at {SLOWEST:g} Mbit/s / no limit, median", 1.05, grown[place])
            for place in PLACES
        ),
        at_least(f"asp / gossip, one link at {PUBLISHED:g} Mbit/s, median", 1.06, over.get(PUBLISHED)),
        at_least(
            f"asp / gossip, one link: at {SLOWEST:g} Mbit/s over that at {PUBLISHED:g}",
            1.0,
            ratio(over.get(SLOWEST), over.get(PUBLISHED)),
        ),
        at_least(f"TensorFlow's server / gossip, one link at {PUBLISHED:g} Mbit/s, median", 1.06, theirs),
    ]
    # A small model says nothing of the claim.
    decided = [] if size == Size.SMOKE else promises
    charts = [chart for figure in ("median", "p90") if (chart := _chart(size, results, figure)).series]
    return Conclusion(_sentence(grown[ONE], over), decided, [_table(size, results)], charts, NOTES)


def _sentence(grown: float | None, over: dict[float, float | None]) -> str:
    parts = []
    if grown is not None:
        parts.append(f"with one link at {SLOWEST:g} Mbit/s a batch of gossip takes {grown:.2f} of one without a limit")
    times = [f"{significant(found)} at {rate:g}" for rate, found in over.items() if found is not None]
    if times:
        parts.append(
            "where the one link is its server's, a batch of the asynchronous server takes so many times as long as one "
            f"of gossip: {', '.join(times)} Mbit/s"
        )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else "Nothing can be compared yet."


def _table(size: Size, results: Results) -> FoundTable:
    heads = ["system", "limited", "Mbit/s", "s/batch median", "p90", "batches", "of gossip's median"]
    rows = []
    for system in SYSTEMS:
        limited = [(place, rate) for place, rates in RATES[size].items() for rate in rates]
        for place, rate, when in [(ONE, None, BEFORE), *((*one, BEFORE) for one in limited), (ONE, None, AFTER)]:
            found = results.get(_name(system, place, rate, when))
            if found is None:
                continue
            step = found["step"]
            same = results.get(_name("gossip", place, rate))
            times = ratio(step["median"], same["step"]["median"] if same is not None else None)
            rows.append(
                [
                    *(SYSTEMS[system], "-" if rate is None else PLACES[place], "-" if rate is None else f"{rate:g}"),
                    *(decimals(step["median"], 4), decimals(step["p90"], 4), str(step["count"]), decimals(times, 2)),
                ]
            )
    rows.append(
        ["centralized, VGG-19 (published)", PLACES[ONE], f"{PUBLISHED:g}", "0.62 to 3.43", "-", "-", "1.06 to 5.81"]
    )
    rows.append(["gossip, VGG-19 (published)", PLACES[ONE], f"{PUBLISHED:g}", "0.58 to 0.73", "-", "-", "-"])
    return FoundTable("Seconds a batch", heads, rows, names=2)


def _chart(size: Size, results: Results, figure: str) -> LineChart:
    series = []
    for system in SYSTEMS:
        for place in PLACES:
            points = []
            for rate in (*RATES[size][place], None):
                found = results.get(_name(system, place, rate))
                if found is not None and found["step"][figure] is not None:
                    points.append((rate or NO_LIMIT, found["step"][figure]))
            if any(rate != NO_LIMIT for rate, _ in points):
                x, y = zip(*points, strict=True)
                series.append(Series(f"{SYSTEMS[system]}, {PLACES[place]}", list(x), list(y)))
    caption = (
        "One link is the server's, or a node's; the others have no limit then. What has no limit at all is drawn at "
        f"{NO_LIMIT:,.0f} Mbit/s. All workers share this machine's cores."
    )
    return LineChart(
        f"sweep-{figure}",
        f"Seconds a batch over the links' rate, {figure}",
        caption,
        "Mbit/s",
        f"seconds a batch, {figure}",
        series,
        log_x=True,
        log_y=True,
        points=True,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=30)
