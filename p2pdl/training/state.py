"""All that a model and its optimizer are between two steps, as named arrays: captured, and restored to the bit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from p2pdl.errors import CheckpointError, CheckpointMismatch

_NUMBER = re.compile(r"_\d+(?=[_/]|$)")
"""Keras' automatic numbers, which an optimizer's names have in the middle: `sgd/dense_7_kernel_momentum`."""

_REMEDY = "give the model and the optimizer as they were when the checkpoint was saved, or start without it"


def capture(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, into: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Copy everything that the next step depends on, but for the data.

    That is every variable of the model (statistics and the counters of its random generators included) and of the
    optimizer (iterations, learning rate, momenta, the residuals of a `MeanThreshold`). Chance that no variable stands
    behind is not part of it: `tf.random` without a seed, and Keras' generator for calls without one.

    Args:
        model: Built.
        optimizer: Built for the model's trainable variables.
        into: An earlier capture that nobody needs any more; it is overwritten, which takes a memcpy. Memory that is
            not there yet costs several times as much.

    Returns:
        Read-only copies by name. The names are the same in every process that builds the same model.

    Raises:
        CheckpointError: The model or the optimizer has not been built.
    """
    arrays = {}
    for name, variable in _variables(model, optimizer):
        # Without a detour: on a processor this is the variable's own memory.
        value = np.asarray(tf.raw_ops.ReadVariableOp(resource=variable.value.handle, dtype=variable.value.dtype))
        array = None if into is None else into.get(name)
        if array is None or (array.dtype, array.shape) != (value.dtype, value.shape):
            array = np.empty_like(value)
        array.flags.writeable = True
        np.copyto(array, value)
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def restore(model: keras.Model, optimizer: keras.optimizers.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Bring a model and its optimizer to where they were captured.

    Args:
        model: Built, by the same code.
        optimizer: Built for the model's trainable variables, of the same kind.
        arrays: As `capture` gave them; they stay as they are, whatever the model does afterwards.

    Raises:
        CheckpointMismatch: A name, a shape or a dtype differs; nothing has been changed.
        CheckpointError: The model or the optimizer has not been built.
    """
    variables = dict(_variables(model, optimizer))
    for name, variable in variables.items():
        if name not in arrays:
            raise CheckpointMismatch(f"the checkpoint has no {name}, which the model or its optimizer has", _REMEDY)
        array = arrays[name]
        there, here = (array.dtype.name, array.shape), (variable.dtype, tuple(variable.shape))
        if there != here:
            raise CheckpointMismatch(
                f"{name} is {_readable(*there)} in the checkpoint and {_readable(*here)} here", _REMEDY
            )
    for name in arrays:
        if name not in variables:
            raise CheckpointMismatch(
                f"the checkpoint has {name}, which neither the model nor its optimizer has", _REMEDY
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[tuple[str, keras.Variable]]:
    for what, owner in (("model", model), ("optimizer", optimizer)):
        if not owner.built:
            raise CheckpointError(f"the {what} {owner.name!r} has not been built", f"build the {what} first")
        seen: Counter[str] = Counter()
        for variable in owner.variables:
            name = _NUMBER.sub("", variable.path)
            seen[name] += 1
            yield f"{what}/{name}" + (f"#{seen[name]}" if seen[name] > 1 else ""), variable


def _readable(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{'x'.join(map(str, shape))}]"
