"""Rows of the family `publication`: publishing and merging a Keras model's weights, against memcpy and numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from p2pdl.store.layout import SLOTS
from tools.benchmarks.cases import CASES
from tools.benchmarks.measurement import Effort, Found, Row, Target, alternate, seconds_of
from tools.benchmarks.reference import MEMCPY, memcpy, weights

MODELS = ("mlp", "vgg19")
SHARE = 0.5
"""The peer's share in a merge."""

NUMPY = "numpy's x += w * (y - x) over vectors of the same size"
MEMORY_BOUND = Target("<=", 1.5)

IN_A_ROW = {"mlp": 20, "vgg19": 1}
"""A small model is over too soon to be timed once."""


def measure(effort: Effort, name: str, what: str, reference: str) -> Found:
    """Measure milliseconds.

    Args:
        effort: How much.
        name: A key of `CASES`.
        what: `publish` or `merge`.
        reference: `memcpy` or `numpy`.
    """
    from tools.benchmarks.training import Exchanged

    times = effort.times(IN_A_ROW[name])
    with Exchanged(CASES[name].sized(effort.trial)) as exchanged:
        size = exchanged.spec.size
        actions: dict[str, Callable[[], object]] = {
            "publish": exchanged.publish,
            "merge": lambda: exchanged.weights.merge_difference(SHARE),
        }
        references = {"memcpy": memcpy, "numpy": numpy_merge}
        once = references[reference](size)
        # Each slot of the store is memory that is touched for the first time once in a run, and here.
        for _ in range(SLOTS):
            exchanged.publish()

        pairs = alternate(
            effort.repeats,
            lambda: 1e3 / times * seconds_of(lambda: [actions[what]() for _ in range(times)]),
            lambda: 1e3 / times * sum(once() for _ in range(times)),
        )
    return Found(pairs, {"megabytes": 4e-6 * size, "times_in_a_row": times})


def numpy_merge(elements: int) -> Callable[[], float]:
    """A function that merges two vectors as numpy writes it, and returns the seconds."""
    own, peer = weights(elements), weights(elements)

    def merge() -> None:
        np.add(own, np.float32(SHARE) * (peer - own), out=own)

    return lambda: seconds_of(merge)


ROWS = (
    *(
        Row(
            f"publish-{name}",
            f"publication of {name}: every variable into a slot of the store, and the digests of its shards",
            MEMCPY,
            "ms",
            partial(measure, name=name, what="publish", reference="memcpy"),
            MEMORY_BOUND,
        )
        for name in MODELS
    ),
    *(
        Row(
            f"merge-{name}{suffix}",
            f"merge of {name} in TensorFlow: x += w * (y - x0) over every variable, the difference lying in the inbox",
            named,
            "ms",
            partial(measure, name=name, what="merge", reference=reference),
            target,
        )
        for name in MODELS
        for suffix, reference, named, target in (
            ("", "numpy", NUMPY, None),
            ("-memcpy", "memcpy", MEMCPY, MEMORY_BOUND),
        )
    ),
)
