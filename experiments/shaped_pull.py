"""Over a slow link a pull takes as long as bare TCP takes for the same bytes, and codecs make it many times sooner.

Claim: a pull of 80 MB in `float32` over links of 100 and of 1000 Mbit/s takes at most 1/0.95 of what a TCP socket takes
for the same bytes; `int8` takes at most 1/3.4 of that; `top-k` of 1 % in `int8` at most 1/50 at 100 Mbit/s, and 1/5 at
1000, where coding counts.

Source: the promises of this project, `docs/performance.md`.

Transfers by TCP and pulls alternate over the same versions, so that a machine whose speed drifts changes both alike;
which of the two is first changes every time. Each of the three processes has a link of that rate: who serves by p2pdl,
who sends by TCP, and who fetches from either.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence

from experiments.harness.experiment import Case, Conclusion, Desk, Figures, Results, Size, experiment
from experiments.harness.hosts import ALL, Hosts
from experiments.harness.promises import at_least
from experiments.pulled_vector import Worker
from p2pdl.report.findings import BarChart, Bars, FoundTable
from p2pdl.report.words import decimals, megabytes, milliseconds
from p2pdl.types import JsonObject

ROLES = ["serve", "send", "fetch"]
CODECS = ("float32", "int8", "top-k:0.01:int8")
MORE_CODECS = ("bfloat16", "float16", "mean-threshold:int8", "top-k:0.01")
CHOSEN = {Size.SMOKE: CODECS[:2], Size.SMALL: CODECS, Size.PAPER: (*CODECS, *MORE_CODECS)}
RATES = {Size.SMOKE: (100.0,), Size.SMALL: (100.0, 1000.0), Size.PAPER: (50.0, 100.0, 300.0, 1000.0)}
"""Mbit/s."""

ELEMENTS = {Size.SMOKE: 250_000, Size.SMALL: 20_000_000, Size.PAPER: 20_000_000}
REPEATS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 10}
"""Measured pairs of a transfer by TCP and a pull."""

MINUTES = {Size.SMOKE: 0.1, Size.SMALL: 0.7, Size.PAPER: 4.0}
SOONER = {"float32": 0.95, "int8": 3.4}
"""How many times sooner than TCP a pull is to be there at least, whatever the rate."""

SOONER_AT = {("top-k:0.01:int8", 100.0): 50.0, ("top-k:0.01:int8", 1000.0): 5.0}
"""The same where it depends on the rate."""

NOTES = ["TCP sends the vector in float32 whatever the codec: what is compared is how soon the weights are there."]


def cases(size: Size) -> Sequence[Case]:
    return [_case(size, rate, codec) for rate in RATES[size] for codec in CHOSEN[size]]


def _name(rate: float, codec: str) -> str:
    return f"{rate:g}-{codec.replace(':', '-')}"


def _case(size: Size, rate: float, codec: str) -> Case:
    settings: JsonObject = {"mbit": rate, "codec": codec, "elements": ELEMENTS[size], "repeats": REPEATS[size]}
    title = f"{codec} over {rate:g} Mbit/s"
    return Case(_name(rate, codec), title, settings, lambda desk: _measure(desk, **settings), MINUTES[size])


def _measure(desk: Desk, mbit: float, codec: str, elements: int, repeats: int) -> Figures:
    """Alternate transfers by TCP and pulls, each pair over a new version."""
    done: dict[str, list[dict[str, float]]] = {"tcp": [], "pull": []}
    with Hosts(ROLES, {ALL: mbit}) as hosts, contextlib.ExitStack() as stack:
        desk.note(**hosts.facts(desk.say, measured=not desk.is_smoke))
        sources = [
            stack.enter_context(Worker(hosts, role, elements=elements, bind=hosts.bind(role))) for role in ROLES[:2]
        ]
        places = {"server": hosts.address("serve"), "sender": hosts.address("send")}
        _publish(sources)
        fetcher = stack.enter_context(Worker(hosts, "fetch", elements=elements, codec=codec, **places))
        for pair in range(1 + repeats):
            for kind in ("tcp", "pull") if pair % 2 else ("pull", "tcp"):
                done[kind].append(fetcher.do(kind))
            error = fetcher.do("compare")["rms_error"]
            _publish(sources)
            desk.say((1 + pair) / (1 + repeats), f"pair {1 + pair}")
    # The first pair opens the connections, and a codec that sends differences has nothing to build on in it.
    tcp, pulls = ([one["seconds"] for one in done[kind][1:]] for kind in ("tcp", "pull"))
    ratios = [theirs / ours for theirs, ours in zip(tcp, pulls, strict=True)]
    return {
        "tcp_seconds": tcp,
        "pull_seconds": pulls,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "payload_nbytes": statistics.median(one["nbytes"] for one in done["pull"][1:]),
        "rms_error": error,
    }


def _publish(sources: Sequence[Worker]) -> None:
    for source in sources:
        source.do("publish")


def conclude(size: Size, results: Results) -> Conclusion:
    promises = []
    for rate in RATES[size]:
        for codec in CHOSEN[size]:
            wanted = SOONER_AT.get((codec, rate), SOONER.get(codec))
            found = results.get(_name(rate, codec))
            if wanted is not None:
                promises.append(at_least(f"{rate:g} Mbit/s: TCP / {codec}", wanted, found and found["ratio"]))
    decided = [] if size == Size.SMOKE else promises
    if not results:
        return Conclusion("Nothing has been measured yet.", decided, notes=NOTES)
    rows = []
    for rate in RATES[size]:
        for codec in CHOSEN[size]:
            found = results.get(_name(rate, codec))
            if found is not None:
                times = [milliseconds(statistics.median(found[name])) for name in ("tcp_seconds", "pull_seconds")]
                ratios = [decimals(value, 3) for value in (found["ratio"], min(found["ratios"]), max(found["ratios"]))]
                off = f"{found['rms_error']:.1e}" if found["rms_error"] else "0"
                rows.append([codec, f"{rate:g}", megabytes(found["payload_nbytes"]), *times, *ratios, off])
    heads = ["codec", "Mbit/s", "MB", "TCP, ms", "pull, ms", "TCP / pull", "from", "to", "rms off"]
    table = FoundTable(f"{4e-6 * ELEMENTS[size]:g} MB of float32", heads, rows)
    return Conclusion(_sentence(size, results), decided, [table], [_chart(size, results)], NOTES)


def _sentence(size: Size, results: Results) -> str:
    rate = RATES[size][0]
    said = []
    for codec in CHOSEN[size]:
        found = results.get(_name(rate, codec))
        if found is not None:
            said.append(f"{codec} {found['ratio']:.3g}")
    return f"How many times sooner than bare TCP a pull is there, at {rate:g} Mbit/s: {', '.join(said) or 'not known'}."


def _chart(size: Size, results: Results) -> BarChart:
    bars = []
    for rate in RATES[size]:
        found = [results.get(_name(rate, codec)) for codec in CHOSEN[size]]
        bars.append(Bars(f"{rate:g} Mbit/s", [one and one["ratio"] for one in found]))
    return BarChart(
        "sooner",
        "How many times sooner than bare TCP",
        "The same vector by a pull, against a TCP socket that sends it in float32.",
        "time of TCP / time of the pull",
        list(CHOSEN[size]),
        bars,
        log=True,
        level=1.0,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=83)
