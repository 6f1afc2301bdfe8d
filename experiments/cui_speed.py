"""One link of 300 Mbit/s slows a parameter server down, and gossip hardly at all.

Claim: with four workers and a full VGG-19, a batch takes 1.06 to 5.81 times as long with a parameter server on a link
of 300 Mbit/s as with gossip of which one node is on such a link. Gossip's own batches are steady (p90 at most 1.3 of
the median) and at most 1.05 as long as without a limit. Of the small `mlp`, TensorFlow's ParameterServerStrategy takes
at least 10 times as long as gossip.

Source: Cui, "Decentralized Deep Learning with Gradient Compression", Table I, Figures 6 and 7: 0.58 to 0.73 s a batch
without a parameter server, 0.62 to 3.43 s with one.

The centralized systems are p2pdl's own asynchronous server (`asp`) and TensorFlow's. The samples are noise: only times
are of interest, and only those while all workers are training. All workers share this machine's cores.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.harness.cluster import Cluster, cluster_case
from experiments.harness.experiment import Case, Conclusion, Results, Size, experiment
from experiments.harness.peers import SERVER, Peer, peer_case
from experiments.harness.promises import at_least, at_most, ratio
from p2pdl.report.findings import FoundTable, Histogram, Sample
from p2pdl.report.words import decimals
from p2pdl.types import JsonObject

RATE = 300.0
"""Mbit/s of the one link that is limited."""

WORKERS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 4}
STEPS = {
    "vgg19": {Size.SMALL: 16, Size.PAPER: 10_000},
    "mlp": {Size.SMOKE: 30, Size.SMALL: 200, Size.PAPER: 10_000},
}
"""Of each node of gossip."""

STEPS_OF_SERVERS = {
    "vgg19": {Size.SMALL: 10, Size.PAPER: 10_000},
    "mlp": {Size.SMOKE: 30, Size.SMALL: 100, Size.PAPER: 10_000},
}
"""Of each worker, which take longer."""

WIDTH = {Size.SMOKE: 0.25, Size.SMALL: 1.0, Size.PAPER: 1.0}
BATCH = {"vgg19": 32, "mlp": 64}
DATA = {"vgg19": "noise-cifar10", "mlp": "noise-mnist"}
FORM = {"vgg19": "keras", "mlp": "module"}
"""TensorFlow's faster one."""

MODELS = {Size.SMOKE: ["mlp"], Size.SMALL: ["vgg19", "mlp"], Size.PAPER: ["vgg19", "mlp"]}
PUBLISHED = {"gossip": (0.58, 0.73), "centralized": (0.62, 3.43)}
"""Seconds a batch."""

MINUTES = {
    "vgg19": {Size.SMALL: (1.7, 3.3, 7.6), Size.PAPER: (600.0, 2400.0, 1800.0)},
    "mlp": {Size.SMOKE: (0.2, 0.3, 0.3), Size.SMALL: (0.5, 1.2, 1.3), Size.PAPER: (10.0, 90.0, 90.0)},
}
"""Of gossip, of p2pdl's server and of TensorFlow's."""

AGAIN = 2
"""The second of gossip's runs without a limit: one before and one after the other run, as machines drift."""

SYSTEMS = {"gossip": "gossip", "asp": "p2pdl, asp", "tensorflow": "TensorFlow, ParameterServerStrategy"}
NOTES = [
    "The paper's machines each had a processor of their own; here all workers share one machine's cores, so a batch "
    "takes longer, and what a transfer adds to it is a smaller share.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for model in MODELS[size]:
        if size == Size.SMOKE:
            found.append(_ours(size, model, "gossip", RATE))
        else:
            found += [_ours(size, model, "gossip", rate) for rate in (None, RATE)]
            found.append(_ours(size, model, "gossip", None, AGAIN))
            found += [_ours(size, model, "asp", rate) for rate in ((RATE,) if size == Size.SMALL else (None, RATE))]
        found.append(_theirs(size, model))
    return found


def _ours(size: Size, model: str, system: str, rate: float | None, run: int = 1) -> Case:
    """One of p2pdl's systems; the limited link is the server's, or the first node's."""
    servers = 1 if system == "asp" else 0
    where = "server1" if servers else "node1"
    sections: JsonObject = {
        "model": {"name": model, "width": WIDTH[size]},
        "train": {
            "steps": (STEPS_OF_SERVERS if servers else STEPS)[model][size],
            "batch_size": BATCH[model],
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
        sections |= {"strategy": "gossip", "gossip": {"exchange_every": 1, "final_merge": False, "start_wait": 600}}
    links = {} if rate is None else {where: rate}
    title = f"{model}, {system}, " + ("no limit" if rate is None else f"{where} at {rate:g} Mbit/s")
    title += ", once more" if run == AGAIN else ""
    cluster = Cluster(sections, DATA[model], nodes=WORKERS[size], servers=servers, links=links)
    return cluster_case(_name(model, system, rate, run), title, cluster, MINUTES[model][size][servers])


def _theirs(size: Size, model: str) -> Case:
    """TensorFlow's, its server limited."""
    peer = Peer(
        model=model,
        width=WIDTH[size],
        data=DATA[model],
        batch=BATCH[model],
        # Ten steps are handed out at a time, and the first twenty count for nothing.
        steps=max(30, STEPS_OF_SERVERS[model][size]),
        form=FORM[model],
        workers=WORKERS[size],
        links={SERVER: RATE},
    )
    title = f"{model}, TensorFlow's server at {RATE:g} Mbit/s"
    return peer_case(_name(model, "tensorflow", RATE), title, peer, MINUTES[model][size][2])


def _name(model: str, system: str, rate: float | None, run: int = 1) -> str:
    name = f"{model}-{system}-{'free' if rate is None else f'{rate:g}'}"
    return name if run == 1 else f"{name}-{run}"


def conclude(size: Size, results: Results) -> Conclusion:
    def of(model: str, system: str, rate: float | None, figure: str = "median", run: int = 1) -> float | None:
        found = results.get(_name(model, system, rate, run))
        return found["step"][figure] if found is not None else None

    small = ratio(of("mlp", "tensorflow", RATE), of("mlp", "gossip", RATE))
    gossip = of("vgg19", "gossip", RATE)
    before, after = (of("vgg19", "gossip", None, run=run) for run in (1, AGAIN))
    free = None if before is None or after is None else (before + after) / 2
    central = ratio(of("vgg19", "asp", RATE), gossip)
    central_p90 = ratio(of("vgg19", "asp", RATE, "p90"), of("vgg19", "gossip", RATE, "p90"))
    theirs = ratio(of("vgg19", "tensorflow", RATE), gossip)
    promises = [
        at_least("vgg19, asp / gossip, median seconds a batch", 1.06, central),
        at_least("vgg19, asp / gossip, p90", 1.06, central_p90),
        at_least("vgg19, TensorFlow's server / gossip, median", 1.06, theirs),
        at_most("vgg19, gossip, p90 / median", 1.3, ratio(of("vgg19", "gossip", RATE, "p90"), gossip)),
        at_most("vgg19, gossip with one node limited / without, before and after", 1.05, ratio(gossip, free)),
        at_least("mlp, TensorFlow's server / gossip, median", 10, small),
    ]
    # The small model of a smoke run says nothing of the claim.
    decided = [] if size == Size.SMOKE else promises
    return Conclusion(_sentence(gossip, central, theirs, small), decided, [_table(results)], _charts(results), NOTES)


def _sentence(gossip: float | None, central: float | None, theirs: float | None, small: float | None) -> str:
    parts = []
    if gossip is not None and central is not None:
        parts.append(
            f"VGG-19 takes {gossip:.3g} s a batch by gossip, {central:.3g} times as long with the asynchronous server"
        )
    if theirs is not None:
        parts.append(f"{theirs:.3g} times with TensorFlow's")
    if small is not None:
        parts.append(f"the mlp takes {small:.3g} times as long with TensorFlow's server as by gossip")
    if not parts:
        return "Nothing can be compared yet."
    return f"With one link at {RATE:g} Mbit/s, " + ", ".join(parts) + "."


def _table(results: Results) -> FoundTable:
    rows = []
    for model in MODELS[Size.SMALL]:
        for system in ("gossip", "asp", "tensorflow"):
            for rate, run in ((None, 1), (RATE, 1), (None, AGAIN)):
                found = results.get(_name(model, system, rate, run))
                if found is None:
                    continue
                step = found["step"]
                rows.append(
                    [
                        model,
                        SYSTEMS[system],
                        "-" if rate is None else f"{rate:g}",
                        decimals(step["median"], 4),
                        decimals(step["p90"], 4),
                        str(step["count"]),
                    ]
                )
    for system, (least, most) in PUBLISHED.items():
        rows.append(["vgg19", f"{system} (published)", f"{RATE:g}", f"{least:g} to {most:g}", "-", "-"])
    heads = ["model", "system", "Mbit/s of one link", "s/batch median", "p90", "batches"]
    return FoundTable("Table I: seconds a batch", heads, rows, names=2)


def _charts(results: Results) -> list[Histogram]:
    """Figures 6 and 7, in one picture."""
    charts = []
    for model in MODELS[Size.SMALL]:
        series = []
        for system in ("gossip", "asp", "tensorflow"):
            found = results.get(_name(model, system, RATE))
            if found is not None and found["step"]["seconds"]:
                series.append(Sample(SYSTEMS[system], found["step"]["seconds"]))
        if series:
            caption = f"Batches of all workers while all train; the server, or one node, at {RATE:g} Mbit/s."
            title = f"Seconds a batch, {model}"
            charts.append(Histogram(f"batch-{model}", title, caption, "seconds a batch", series, log=True))
    return charts


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=20)
