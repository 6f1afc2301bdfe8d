"""Rows of the family `memory`: what p2pdl adds to the peak memory of its processes, in sizes of the model.

The peak of a process is `VmHWM` less `RssShmem`: the most that it had resident at once, anonymous or mapped from files.
The store, which a trainer and its server share, counts with all the memory that the kernel has given to it: the slots
that are there for what the server sends count as the server's, the others as the trainer's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.pulled_vector import CHANGE_SIGMA, layout
from p2pdl.store.layout import LEASES, SLOTS
from tools.benchmarks.accounting import own_peak_nbytes
from tools.benchmarks.cases import CASES, Case
from tools.benchmarks.measurement import Details, Effort, Found, Pair, Row, Target
from tools.benchmarks.peers import make_way
from tools.benchmarks.pulling import pull_on_request
from tools.benchmarks.reference import weights
from tools.benchmarks.role import answer, orders
from tools.benchmarks.served import Served
from tools.benchmarks.worker import Worker

MODEL_BYTES = "the float32 bytes of the model"
MEGABYTES, VERSIONS = 80, 6
STEPS, MERGES = 8, 3
"""A training goes on for so many steps, and with gossip until it has merged so often."""

WIDE_MLP = Case("mlp", 6.0, 64, 0)
"""86 MB of weights and few activations, so that memory for these does not blur the figure."""


def measure_trainer(effort: Effort, case: Case) -> Found:
    """Measure MB by which the memory of a trainer and its store lies above that of a plain one."""
    case = case.sized(effort.trial)
    settings: dict[str, Any] = {"model": case.model, "width": case.width, "batch": case.batch}
    pairs: list[Pair] = []
    details: Details = {}
    for _ in range(effort.repeats):
        peaks = {}
        for gossips in (False, True):
            with Worker(train, gossips=gossips, **settings) as trainer:
                said = trainer.ask("train")
            peaks[gossips] = 1e-6 * said["peak"]
        store = 1e-6 * said["store"] * (SLOTS - LEASES) / SLOTS
        pairs.append((peaks[True] + store - peaks[False], 1e-6 * said["nbytes"]))
        details = {
            "own_peak_megabytes": peaks[True],
            "plain_own_peak_megabytes": peaks[False],
            "store_megabytes": store,
            "store_megabytes_of_the_server": store * LEASES / (SLOTS - LEASES),
        }
    return Found(pairs, details, f"{store:.0f} MB of it are slots of the store")


def train(model: str, width: float, batch: int, gossips: bool) -> None:
    """Role of a trainer; it answers with the bytes of its own peak, of its store and of the model."""
    spare = make_way()
    from tools.benchmarks.training import Gossip, Training

    training = Training(Case(model, width, batch, 0), masked=gossips)
    store = 0
    for _ in orders():
        if gossips:
            with Gossip(training, spare) as gossip:
                gossip.resume()
                while training.steps < STEPS or gossip.exchange.counters.merges < MERGES:
                    gossip.step()
                gossip.rest()
                store = gossip.own.store_nbytes
                peak = own_peak_nbytes()
        else:
            for _ in range(STEPS):
                training.step()
            peak = own_peak_nbytes()
        answer(peak=peak, store=store, nbytes=training.spec.nbytes)


def measure_server(effort: Effort, codec: str) -> Found:
    """Measure MB by which the peak of a server process lies above what it was before the first version.

    Two peers pull at the same time, each a version of its own, so that the server has to hold two.
    """
    elements = effort.elements(MEGABYTES)
    vector = weights(elements)
    random = np.random.default_rng(1)
    spec = layout(elements)
    pairs: list[Pair] = []
    for _ in range(effort.repeats):
        with Served("server", spec, uploads=2) as served:
            settings: dict[str, Any] = {"elements": elements, "address": served.address}
            before = own_peak_nbytes(served.process)
            with (
                Worker(pull_on_request, codec=codec, name="one", **settings) as one,
                Worker(pull_on_request, codec="float32", name="other", **settings) as other,
            ):
                for _ in range(effort.times(VERSIONS)):
                    for puller in (one, other):
                        np.add(vector, CHANGE_SIGMA * random.standard_normal(elements, np.float32), out=vector)
                        served.publish(vector)
                        puller.tell("pull")
                    for puller in (one, other):
                        puller.answer()
                peak = own_peak_nbytes(served.process) + served.store_nbytes * LEASES // SLOTS
        pairs.append((1e-6 * (peak - before), 1e-6 * spec.nbytes))
    return Found(pairs, {"before_megabytes": 1e-6 * before})


ROWS = (
    Row(
        "memory-server",
        f"peak memory of a server of {MEGABYTES} MB while two peers pull, beyond that of an idle one",
        MODEL_BYTES,
        "MB",
        partial(measure_server, codec="float32"),
        Target("<=", 3.0),
    ),
    Row(
        "memory-server-delta",
        "the same with one of the two pulling by top-k:0.01:int8, for which one copy of the model is allowed",
        MODEL_BYTES,
        "MB",
        partial(measure_server, codec="top-k:0.01:int8"),
        Target("<=", 4.0),
    ),
    *(
        Row(
            f"memory-{name}",
            f"peak memory of a trainer of {what} with mask, exchange and store, beyond that of the bare loop",
            MODEL_BYTES,
            "MB",
            partial(measure_trainer, case=case),
            Target("<=", 4.0),
            quick=False,
        )
        for name, what, case in (
            ("mlp", "an mlp of six times the width, batch 64,", WIDE_MLP),
            ("vgg19", "vgg19, batch 32,", CASES["vgg19"]),
        )
    ),
)
