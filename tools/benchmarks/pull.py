"""Rows of the family `pull`: a pull over loopback against a bare TCP socket, each end in a process of its own.

A pull counts from the first request until the last shard lies in the inbox; publishing the version is not part of it.
"""

from __future__ import annotations

from functools import partial

from experiments.pulled_vector import layout
from p2pdl.store.layout import SLOTS
from tools.benchmarks.measurement import Effort, Found, Row, Target, alternate
from tools.benchmarks.pulling import pull_on_request
from tools.benchmarks.reference import BARE_TCP, send_by_tcp, weights
from tools.benchmarks.served import Served
from tools.benchmarks.worker import Worker

SIZES = (4, 80, 400)
"""MB of float32."""

MEGABYTES_IN_A_ROW = 80
"""Small vectors are transferred several times for one measurement."""


def measure(effort: Effort, megabytes: int, checked: bool) -> Found:
    """Measure MB/s, each pull being the first one of its version.

    Args:
        effort: How much.
        megabytes: Size of the vector.
        checked: True if the puller checks digests and that values are finite.
    """
    elements = effort.elements(megabytes)
    times = effort.times(max(1, MEGABYTES_IN_A_ROW // megabytes))
    vector = weights(elements)
    with (
        Served("server", layout(elements)) as served,
        Worker(send_by_tcp, elements=elements) as sender,
        Worker(
            pull_on_request,
            elements=elements,
            address=served.address,
            codec="float32",
            name="puller",
            port=sender.ask("port")["port"],
            checked=checked,
        ) as puller,
    ):
        # Each slot of the store is memory that is touched for the first time once in a run, and here.
        for _ in range(SLOTS):
            served.publish(vector)
            puller.ask("pull")

        def rate(what: str) -> float:
            seconds = 0.0
            for _ in range(times):
                if what == "pull":
                    served.publish(vector)
                seconds += puller.ask(what)["seconds"]
            return 4e-6 * elements * times / seconds

        pairs = alternate(effort.repeats, lambda: rate("pull"), lambda: rate("tcp"))
        puller.ask("compare")
    return Found(pairs, {"megabytes": 4e-6 * elements, "transfers_in_a_row": times})


def rows_of(megabytes: int) -> list[Row]:
    """The rows of one size; what was promised, was promised of 80 MB."""
    return [
        Row(
            f"pull-{megabytes}{suffix}",
            f"pull of {megabytes} MB of float32, {what}",
            BARE_TCP,
            "MB/s",
            partial(measure, megabytes=megabytes, checked=checked),
            Target(">=", least) if megabytes == 80 else None,
        )
        for suffix, what, checked, least in (
            ("", "the digest of every shard and that it is finite checked", True, 0.80),
            ("-unchecked", "these checks left out", False, 0.90),
        )
    ]


ROWS = tuple(row for megabytes in SIZES for row in rows_of(megabytes))
