"""What p2pdl is compared with is in good order: TensorFlow's strategies train MNIST as well as p2pdl's own servers.

Claim: with four workers on one machine, `ParameterServerStrategy` (asynchronous, a coordinator, one server) and
`MultiWorkerMirroredStrategy` (synchronous, a ring) train MNIST to 0.965, what `parameter_servers` asks of p2pdl's own,
in as many samples.

Source: the documentation of `tf.distribute`; Keras 3 models in custom loops.

Each worker trains on an iid part of its own, the one that p2pdl's nodes have, in a new order in every pass. Under the
parameter server a worker that is free takes the next steps, so that a faster one makes more passes over its part. SGD
with momentum is at the server, or at all workers alike after the mean of their gradients. Ten steps are handed out at a
time.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.harness.experiment import Case, Conclusion, Results, Size, experiment
from experiments.harness.peers import Peer, peer_case
from experiments.harness.promises import at_least
from experiments.peers.figures import MIRRORED, PARAMETER_SERVER
from p2pdl.report.findings import BarChart, Bars, FoundTable
from p2pdl.report.words import decimals, megabytes, milliseconds

TARGET = 0.965
STRATEGIES = {PARAMETER_SERVER: "ParameterServerStrategy", MIRRORED: "MultiWorkerMirroredStrategy"}
CHOSEN = {Size.SMOKE: [MIRRORED], Size.SMALL: list(STRATEGIES), Size.PAPER: list(STRATEGIES)}
DATA = {Size.SMOKE: "digits", Size.SMALL: "mnist", Size.PAPER: "mnist"}
WORKERS = {Size.SMOKE: 2, Size.SMALL: 4, Size.PAPER: 4}
STEPS = {Size.SMOKE: 60, Size.SMALL: 704, Size.PAPER: 4688}
"""Of each worker, in batches of 64: three or twenty passes over a quarter of MNIST."""

MINUTES = {Size.SMOKE: 0.4, Size.SMALL: 1.5, Size.PAPER: 8.0}
NOTES = [
    "The bytes of a step are those that one worker has to move at least, by arithmetic: a parameter server takes a "
    "gradient and gives all weights, a ring passes the gradients around.",
    "The first twenty steps of each worker train, but count for no time.",
]


def cases(size: Size) -> Sequence[Case]:
    found = []
    for strategy in CHOSEN[size]:
        peer = Peer(
            DATA[size],
            "mlp",
            STEPS[size],
            batch=16 if size == Size.SMOKE else 64,
            width=0.25 if size == Size.SMOKE else 1.0,
            workers=WORKERS[size],
            strategy=strategy,
        )
        found.append(peer_case(strategy, STRATEGIES[strategy], peer, MINUTES[size]))
    return found


def conclude(size: Size, results: Results) -> Conclusion:
    done = {title: results[name] for name, title in STRATEGIES.items() if name in results}
    promises = [
        at_least(f"{title}, test accuracy", TARGET, done[title]["accuracy"] if title in done else None)
        for title in STRATEGIES.values()
    ]
    decided = [] if size == Size.SMOKE else promises
    if not done:
        return Conclusion("Nothing has been trained yet.", decided, notes=NOTES)
    rows = []
    for title, found in done.items():
        step = found["step"]
        speed = [decimals(found["steps_per_second"], 1), milliseconds(step["median"]), milliseconds(step["p90"])]
        rows.append([title, decimals(found["accuracy"], 4), *speed, megabytes(found["bytes_per_step"])])
    heads = ["strategy", "accuracy", "steps/s of all", "ms a step", "p90", "MB a step"]
    said = ", ".join(f"{title} {found['accuracy']:.4f}" for title, found in done.items())
    chart = BarChart(
        "accuracy",
        "Test errors",
        "Share of the test samples that are not recognised; shorter is better.",
        "errors, %",
        list(done),
        [Bars("TensorFlow", [100 * (1 - found["accuracy"]) for found in done.values()])],
    )
    table = FoundTable("TensorFlow's strategies, mlp", heads, rows)
    return Conclusion(f"In as many samples as p2pdl's servers: {said}.", decided, [table], [chart], NOTES)


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=52)
