"""Rows of the family `encryption`: a pull over loopback with CURVE, against one in float32 without.

MB/s of float32 weights, whatever they become on the wire. Each end is a process of its own, as in the family `pull`.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from experiments.pulled_vector import layout
from p2pdl.keys import AllowedKey, allow, write_secret
from p2pdl.store.layout import SLOTS
from p2pdl.transport.curve import make_keypair
from tools.benchmarks.measurement import Effort, Found, Row, Target, alternate
from tools.benchmarks.pulling import pull_on_request
from tools.benchmarks.reference import weights
from tools.benchmarks.served import Served
from tools.benchmarks.worker import Worker

SERVER, PULLER = "server", "puller"
MEGABYTES = 80


def measure(effort: Effort, codec: str) -> Found:
    """Measure MB/s, each pull being the first one of its version.

    Args:
        effort: How much.
        codec: How the encrypted pull encodes.
    """
    elements = effort.elements(MEGABYTES)
    vector = weights(elements)
    with ExitStack() as stack:
        keys = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_keys(keys)

        def side(codec: str, keys: Path | None) -> tuple[Served, Worker]:
            served = stack.enter_context(Served(SERVER, layout(elements), keys=keys))
            puller = Worker(
                pull_on_request,
                elements=elements,
                address=served.address,
                codec=codec,
                name=PULLER,
                keys=str(keys or ""),
            )
            return served, stack.enter_context(puller)

        sides = {"encrypted": side(codec, keys), "plain": side("float32", None)}
        nbytes = 0

        def rate(which: str) -> float:
            nonlocal nbytes
            served, puller = sides[which]
            served.publish(vector)
            pulled = puller.ask("pull")
            if which == "encrypted":
                nbytes = pulled["nbytes"]
            return 4e-6 * elements / pulled["seconds"]

        # Each slot of the stores is memory that is touched for the first time once in a run, and here.
        for _ in range(SLOTS):
            for which in sides:
                rate(which)
        pairs = alternate(effort.repeats, lambda: rate("encrypted"), lambda: rate("plain"))
    return Found(pairs, {"megabytes": 4e-6 * elements, "megabytes_on_the_wire": 1e-6 * nbytes})


def make_keys(folder: Path) -> None:
    """Keys for the two ends."""
    for name in (SERVER, PULLER):
        secret, public = make_keypair()
        write_secret(folder, name, secret)
        allow(folder, [AllowedKey(name, public)])


ROWS = tuple(
    Row(
        f"pull-{MEGABYTES}{suffix}",
        f"pull of {MEGABYTES} MB of float32 in {codec} with CURVE",
        f"pull of the same {MEGABYTES} MB in float32 without encryption",
        "MB/s",
        partial(measure, codec=codec),
        target,
    )
    for suffix, codec, target in (("-curve", "float32", None), ("-int8-curve", "int8", Target(">=", 1.0)))
)
