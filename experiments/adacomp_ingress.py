"""AdaComp's server takes in a hundredth of the bytes of plain asynchronous training, at equal accuracy.

Claim: on MNIST, with a CNN and 20 workers, the server of `adacomp` has received at most 1/100 of the bytes that the
server of dense `asp` has, when its weights reach the same test accuracy; also where a quarter of the workers dies in
mid-run.

Source: Hardy, Le Merrer, Sericola, "Distributed deep learning on edge-devices: feasibility via adaptive compression"
(2017): about 191 times less ingress traffic, MNIST, a CNN, 20 workers.

Twenty workers that are processes do not fit on two cores, so here they take turns in one process, with one Keras model:
each has its own pulled weights, batches, residual and link, and the order of their steps is that of workers of about
equal speed, drawn with a seed. All else is what a cluster runs: gradient, sparsifier, coding, messages to bytes and
back, server, pulls. Ingress is all that the server receives after the first weights, the requests of the pulls
included, and the headers. All cases have the same weights to begin with, batches, and order; the learning rate of each
is the better of 0.01 and 0.02 after a third of a pass, without momentum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.harness.crew import CrewRun, Progress, crew_case, progress_of
from experiments.harness.experiment import Case, Conclusion, Results, Size, experiment
from experiments.harness.promises import at_least, ratio
from p2pdl.report import words
from p2pdl.report.findings import BarChart, Bars, Chart, FoundTable, LineChart, Series
from p2pdl.types import JsonObject

TARGET, PUBLISHED = 100.0, 191.0
ACCURACIES = {Size.SMOKE: (0.2, 0.3), Size.SMALL: (0.9, 0.95), Size.PAPER: (0.95, 0.97, 0.98)}
"""At which the systems are compared; the claim is about the last one."""


@dataclass(frozen=True)
class System:
    """One of those that are compared.

    Attributes:
        title: For people.
        settings: Of the crew.
        dead: Whether a quarter of the workers dies.
    """

    title: str
    settings: JsonObject
    dead: bool = False


def _adacomp(kept: float, values: str, rule: str = "adacomp", rate: float = 0.02) -> JsonObject:
    return {
        "rule": rule,
        "learning_rate": rate,
        "sparsifier": "adacomp",
        "settings": {"fraction": kept},
        "values": values,
    }


ONE_RATE = _adacomp(0.01, "int8", "consgd", 0.01)
SYSTEMS = {
    "dense": System("dense asp", {}),
    "adacomp": System("AdaComp 1 %, int8", _adacomp(0.01, "int8")),
    "adacomp-float32": System("AdaComp 1 %, float32", _adacomp(0.01, "float32")),
    "one-rate": System("1 %, int8, one rate for all", ONE_RATE),
    "dense-dying": System("dense asp, 1 in 4 dies", {}, dead=True),
    "adacomp-dying": System("AdaComp 1 %, int8, 1 in 4 dies", _adacomp(0.01, "int8"), dead=True),
    "one-rate-dying": System("1 %, int8, one rate, 1 in 4 dies", ONE_RATE, dead=True),
}
"""By the names of their cases; those with one rate are the same without the adaptive rates."""

CURVES = tuple(name for name in SYSTEMS if name != "one-rate-dying")
"""Those that can still be told apart in a picture."""

SMOKE = ("dense", "adacomp", "adacomp-dying")
WORKERS = {Size.SMOKE: 5, Size.SMALL: 20, Size.PAPER: 20}
PASSES = {Size.SMOKE: 2.0, Size.SMALL: 1.0, Size.PAPER: 20.0}
"""Over all of the data."""

LOOKS = {Size.SMOKE: 6, Size.SMALL: 25, Size.PAPER: 100}
MINUTES = {Size.SMOKE: 0.1, Size.SMALL: 2.0, Size.PAPER: 40.0}
SAMPLES = {"digits": 1797 * 4 // 5, "mnist": 60_000}
BATCH = 16
NOTES = [
    "Twenty logical workers take turns in one process; their messages, and so the bytes, are those of real ones.",
    "A worker dies by never pushing again; its residual is lost, and the server gives it up when its lease is over.",
    "One seed. Before the first pass is over, dense training is still far from what it reaches in the end.",
]


def cases(size: Size) -> Sequence[Case]:
    return [_case(size, name) for name in (SMOKE if size == Size.SMOKE else SYSTEMS)]


def _case(size: Size, name: str) -> Case:
    system, data = SYSTEMS[name], "digits" if size == Size.SMOKE else "mnist"
    pushes = int(PASSES[size] * SAMPLES[data] / BATCH)
    run = CrewRun(
        {"learning_rate": 0.01, **system.settings},
        data,
        "cnn",
        width=0.25 if size == Size.SMOKE else 1.0,
        workers=WORKERS[size],
        batch=BATCH,
        pushes=pushes,
        look_every=pushes // LOOKS[size],
        samples=2500,
        dead=max(1, WORKERS[size] // 4) if system.dead else 0,
    )
    return crew_case(name, system.title, run, MINUTES[size])


def conclude(size: Size, results: Results) -> Conclusion:
    known = {name: progress_of(results[name]) for name in SYSTEMS if name in results}
    wanted = ACCURACIES[size][-1]
    times, dying = fewer(known, "adacomp", wanted), fewer(known, "adacomp-dying", wanted)
    points = None
    if "dense" in results and "adacomp" in results:
        points = 100 * (results["adacomp"]["accuracy"] - results["dense"]["accuracy"])
    promises = [
        at_least(f"ingress to {wanted:g}, dense / AdaComp 1 % int8", TARGET, times),
        at_least("the same where 1 of 4 workers dies, dense ones too", TARGET, dying),
        at_least("accuracy after as many pushes, AdaComp 1 % int8 less dense, points", -0.5, points),
    ]
    # The few digits of a smoke run say nothing of the claim.
    decided = [] if size == Size.SMOKE else promises
    tables = [_table(results, known, ACCURACIES[size])] if known else []
    charts: list[Chart] = [_curves(known, size), _bars(known, wanted)] if known else []
    return Conclusion(_sentence(wanted, times, dying, points), decided, tables, charts, NOTES)


def fewer(known: Mapping[str, Progress], name: str, wanted: float) -> float | None:
    """How many times fewer bytes one system needs to an accuracy than the dense one with as many deaths."""
    dense = "dense-dying" if SYSTEMS[name].dead else "dense"
    if name not in known or dense not in known:
        return None
    return ratio(known[dense].ingress_to(wanted), known[name].ingress_to(wanted))


def _sentence(wanted: float, times: float | None, dying: float | None, points: float | None) -> str:
    parts = []
    if times is not None:
        parts.append(
            f"until {wanted:g} AdaComp's server receives 1/{times:.0f} of the bytes of dense asp, published 1/191"
        )
    if dying is not None:
        parts.append(f"where a quarter of the workers dies 1/{dying:.0f}")
    if points is not None:
        side = "above" if points >= 0 else "below"
        parts.append(f"after as many pushes its accuracy is {abs(points):.1f} points {side} the dense one's")
    if not parts:
        return "Nothing can be compared yet."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _table(results: Results, known: Mapping[str, Progress], accuracies: Sequence[float]) -> FoundTable:
    rows = []
    for name, progress in known.items():
        reached = [progress.ingress_to(wanted) for wanted in accuracies]
        times = [fewer(known, name, wanted) for wanted in accuracies]
        found = results[name]
        rows.append(
            [
                SYSTEMS[name].title,
                words.decimals(found["accuracy"], 4),
                words.decimals(1e-3 * progress.ingress[-1] / progress.pushes[-1], 1),
                *(words.nbytes(nbytes) for nbytes in reached),
                *(words.decimals(value, 0) for value in times),
                words.decimals(found["staleness"], 1),
                str(found["given_up"]),
            ]
        )
    blank = [words.NOTHING] * len(accuracies)
    rows.append(["AdaComp (published)", "-", "-", *blank, *blank[1:], f"about {PUBLISHED:.0f}", "-", "-"])
    heads = ["system", "accuracy", "kB a push", *(f"bytes to {wanted:g}" for wanted in accuracies)]
    heads += [*(f"fewer to {wanted:g}" for wanted in accuracies), "staleness", "given up"]
    return FoundTable("Bytes into the server", heads, rows)


def _curves(known: Mapping[str, Progress], size: Size) -> LineChart:
    """The poster's figure, against bytes in place of iterations."""
    series = [
        Series(SYSTEMS[name].title, [1e-6 * nbytes for nbytes in progress.ingress], list(progress.accuracy))
        for name, progress in known.items()
        if name in CURVES
    ]
    caption = f"Test accuracy of the server's weights, {WORKERS[size]} workers, against what it has received by then."
    return LineChart(
        "accuracy-ingress",
        "Accuracy against ingress",
        caption,
        "MB into the server",
        "test accuracy",
        series,
        log_x=True,
        level=ACCURACIES[size][-1],
    )


def _bars(known: Mapping[str, Progress], wanted: float) -> BarChart:
    names = [name for name in known if not name.startswith("dense")]
    ours = [fewer(known, name, wanted) for name in names]
    return BarChart(
        "fewer",
        "How many times fewer bytes",
        f"Ingress to an accuracy of {wanted:g}, dense / sparse, both with as many deaths; the line is the claim.",
        "times fewer",
        [*(SYSTEMS[name].title for name in names), "AdaComp"],
        [Bars("p2pdl", [*ours, None]), Bars("Hardy et al. 2017", [*(None for _ in names), PUBLISHED], published=True)],
        level=TARGET,
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=70)
