"""Rows of the family `server`: the processor time that a server takes for serving, against a bare TCP sender's.

What counts is everything that the process does for a version that it has not served before: it fetches it out of the
store, encodes it and sends it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.pulled_vector import CHANGE_SIGMA, layout
from tools.benchmarks.accounting import processor_seconds
from tools.benchmarks.measurement import Effort, Found, Row, alternate
from tools.benchmarks.pulling import pull_on_request
from tools.benchmarks.reference import send_by_tcp, weights
from tools.benchmarks.served import Served
from tools.benchmarks.worker import Worker

CODECS = ("float32", "int8", "top-k:0.01:int8")
MEGABYTES, IN_A_ROW = 80, 5


def measure(effort: Effort, codec: str) -> Found:
    """Measure seconds of a processor for each GB of float32 that is served, whatever it becomes on the wire."""
    elements = effort.elements(MEGABYTES)
    times = effort.times(IN_A_ROW)
    vector = weights(elements)
    random = np.random.default_rng(1)
    with (
        Served("server", layout(elements)) as served,
        Worker(send_by_tcp, elements=elements) as sender,
        Worker(
            pull_on_request,
            elements=elements,
            address=served.address,
            codec=codec,
            name="puller",
            port=sender.ask("port")["port"],
        ) as puller,
    ):

        def cost(process: int, transfer: Callable[[], object]) -> float:
            before = processor_seconds(process)
            for _ in range(times):
                transfer()
            return (processor_seconds(process) - before) / (4e-9 * elements * times)

        def pull() -> None:
            np.add(vector, CHANGE_SIGMA * random.standard_normal(elements, np.float32), out=vector)
            served.publish(vector)
            puller.ask("pull")

        pairs = alternate(
            effort.repeats,
            lambda: cost(served.process, pull),
            lambda: cost(sender.process, lambda: puller.ask("tcp")),
        )
    return Found(pairs, {"megabytes": 4e-6 * elements, "transfers_in_a_row": times})


ROWS = tuple(
    Row(
        f"server-{codec}",
        f"processor time of a server that serves {MEGABYTES} MB of float32 in {codec}, each pull a new version",
        "processor time of a bare TCP server that sends the same float32 bytes",
        "s/GB",
        partial(measure, codec=codec),
    )
    for codec in CODECS
)
