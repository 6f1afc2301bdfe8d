"""Updates for tests, dense and sparse, and what they are as whole vectors."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from p2pdl.aggregation import Update
from p2pdl.types import Float32Vector

SIZE = 12
WORKERS = ("a", "b", "c")


def dense(
    values: list[float] | Float32Vector, worker: str = "a", clock: int = 0, staleness: int = 0, start: int = 0
) -> Update:
    return Update(worker, clock, staleness, start, None, np.asarray(values, np.float32), 64)


def sparse(indices: list[int], values: list[float], worker: str = "a", clock: int = 0, staleness: int = 0) -> Update:
    return Update(worker, clock, staleness, 0, np.array(indices, np.intp), np.array(values, np.float32), 64)


def whole(update: Update, values: Float32Vector | None = None, size: int = SIZE) -> Float32Vector:
    """The update as a vector of the server's size."""
    vector = np.zeros(size, np.float32)
    vector[update.place] = update.values if values is None else values
    return vector


@st.composite
def updates(draw: st.DrawFn, worker: str | None = None) -> Update:
    """Any update of a vector of `SIZE`: all of it, a range of it, or some entries."""
    worker = worker or draw(st.sampled_from(WORKERS))
    clock, staleness = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = (rng.normal(size=SIZE) * 10.0 ** rng.integers(-2, 3) * (rng.random(SIZE) < rng.random())).astype(
        np.float32
    )
    kind = draw(st.sampled_from(["whole", "range", "sparse"]))
    if kind == "sparse":
        indices = np.flatnonzero(rng.random(SIZE) < rng.random())
        return sparse(indices.tolist(), values[indices].tolist(), worker, clock, staleness)
    start = draw(st.integers(0, SIZE - 1)) if kind == "range" else 0
    stop = draw(st.integers(start, SIZE)) if kind == "range" else SIZE
    return dense(values[start:stop], worker, clock, staleness, start)
