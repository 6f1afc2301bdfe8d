"""Rows of the family `sparsifiers`: choosing what a worker pushes and turning it into bytes, against its step.

The step is the one of a worker whose optimizer is at the parameter server: a `tf.function` forward and backward, and
the gradient into the flat vector. Step, choice and bytes follow each other as in a worker, so that the caches hold
what the step has left in them.
"""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np

from p2pdl.sparsifier import SPARSIFIERS, Selection, SelectionCoding, make_sparsifier
from p2pdl.types import Float32Vector
from tools.benchmarks.cases import CASES
from tools.benchmarks.measurement import Effort, Found, Pair, Row, Target, seconds_of

MODELS = {"mlp": 40, "vgg19": 1}
"""Steps of one repeat: that of a small model is over too soon to be timed once."""

VALUES = ("float32", "int8")

FRACTIONS = {"top-fraction": 0.01, "adacomp": 0.01, "esgd": 0.5}
REACHED_BY = 0.01
"""Share of the first gradient's entries that reach the threshold of `threshold`."""

WARM_UP = 4
"""Steps before the first one that counts: residuals fill, and memory is touched for the first time."""

TARGET = Target("<=", 0.1)


def measure(effort: Effort, model: str, sparsifier: str, values: str) -> Found:
    """Measure milliseconds.

    Args:
        effort: How much.
        model: A key of `CASES`.
        sparsifier: A key of `SPARSIFIERS`.
        values: How values travel.
    """
    from tools.benchmarks.training import Gradients

    gradients = Gradients(CASES[model].sized(effort.trial))
    gradients.step()
    spec = gradients.spec
    chooser = make_sparsifier(sparsifier, spec, 0, **settings_of(sparsifier, gradients.vector))
    coding = SelectionCoding(spec, values)
    nbytes = sent = turns = 0
    seconds: dict[str, list[float]] = {"step": [], "select": [], "encode": []}

    def turn() -> None:
        nonlocal nbytes, sent, turns
        loss, selection = 0.0, Selection(None, gradients.vector)

        def step() -> None:
            nonlocal loss
            loss = gradients.step()

        def select() -> None:
            nonlocal selection
            selection = chooser.select(gradients.vector, loss)

        def encode() -> None:
            nonlocal nbytes
            nbytes += sum(payload.size for _, payload in coding.encode(selection, turns))

        for name, part in (("step", step), ("select", select), ("encode", encode)):
            seconds[name].append(seconds_of(part))
        sent += selection.values.size
        turns += 1

    for _ in range(effort.times(WARM_UP)):
        turn()
    nbytes = sent = turns = 0
    pairs: list[Pair] = []
    for series in seconds.values():
        series.clear()
    each = effort.times(MODELS[model])
    for _ in range(effort.repeats):
        for _ in range(each):
            turn()
        step, select, encode = (1e3 * sum(series[-each:]) / each for series in seconds.values())
        pairs.append((select + encode, step))
    select, encode = (1e3 * statistics.median(seconds[name]) for name in ("select", "encode"))
    details: dict[str, float | int | str] = {
        "parameters": spec.parameters,
        "steps_of_a_repeat": each,
        "share_sent": sent / turns / spec.size,
        "megabytes_of_a_push": 1e-6 * nbytes / turns,
        **{f"{name}_ms_least": 1e3 * min(series) for name, series in seconds.items()},
        **{f"{name}_ms_median": 1e3 * statistics.median(series) for name, series in seconds.items()},
    }
    return Found(pairs, details, f"{select:.3g} ms to select, {encode:.3g} ms to encode")


def settings_of(sparsifier: str, gradient: Float32Vector) -> dict[str, float]:
    """The settings that differ from the defaults.

    Args:
        sparsifier: Its name.
        gradient: One of those that it will select from.
    """
    if sparsifier == "threshold":
        return {"threshold": float(np.quantile(np.abs(gradient), 1.0 - REACHED_BY))}
    return {"fraction": FRACTIONS[sparsifier]} if sparsifier in FRACTIONS else {}


ROWS = tuple(
    Row(
        f"select-{model}-{sparsifier}{'' if values == 'float32' else f'-{values}'}",
        f"what `{sparsifier}` selects of the gradient of {model}, and its bytes with {values} values",
        f"the step of {model}, batch {CASES[model].batch}: forward, backward, and the gradient into the vector",
        "ms",
        partial(measure, model=model, sparsifier=sparsifier, values=values),
        TARGET,
        quick=model == "mlp",
    )
    for model in MODELS
    for sparsifier in SPARSIFIERS
    for values in VALUES
)
