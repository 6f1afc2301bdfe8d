"""A Keras model's weights as the flat vector of its WeightSpec: copied out, merged and replaced without detours.

Nothing here goes through `get_weights` or `set_weights`: tensors of the processor are views of the vector's memory
(DLPack), and a merge is one kernel of TensorFlow for each variable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from p2pdl.errors import ModelUnavailable
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.types import Float32Vector

_NUMBER = re.compile(r"_\d+(?=/|$)")


@dataclass(frozen=True, slots=True)
class _Place:
    """One variable, with what would otherwise be looked up in every exchange.

    Attributes:
        span: Its elements in the vector.
        shape: Its shape.
        handle: The resource behind it, which stays the same while the model lives.
        dtype: Its type; the vector is float32.
        trainable: False for statistics.
        tensors: Its elements of each inbox.
    """

    span: slice
    shape: tuple[int, ...]
    handle: tf.Tensor
    dtype: tf.DType
    trainable: bool
    tensors: tuple[tf.Tensor, ...]

    def read(self) -> tf.Tensor:
        """The variable's value, without a copy."""
        return tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype)


class ModelWeights:
    """The exchanged variables of one model: its floating-point weights, BatchNorm's statistics included.

    Integer state, such as the counters of random generators, stays each node's own.

    Args:
        model: A built Keras model on the TensorFlow backend.
        inboxes: The vectors that merges take their values from, shape (spec.size,), aligned to 64 bytes; the merge is
            bound to their memory. Made with `spec_of(model)`.
    """

    def __init__(self, model: keras.Model, *inboxes: Float32Vector) -> None:
        self.spec = spec_of(model)
        self._variables = exchanged(model)
        self._inboxes = inboxes
        self._places = [
            _Place(
                place.span,
                place.shape,
                variable.value.handle,
                variable.value.dtype,
                place.trainable,
                # Made once: a tensor over an inbox's memory shows whatever has arrived there.
                tuple(
                    tf.experimental.dlpack.from_dlpack(inbox[place.span].reshape(place.shape).__dlpack__())
                    for inbox in inboxes
                ),
            )
            for place, variable in zip(self.spec.variables, self._variables, strict=True)
        ]
        self._in_place = all("CPU" in variable.value.device for variable in self._variables)

    def copy_to(self, vector: Float32Vector) -> None:
        """Write every variable into a vector of the spec's layout; the padding is left alone."""
        for _ in self.copy_in_pieces(vector):
            pass

    def copy_in_pieces(self, vector: Float32Vector) -> Iterator[int]:
        """As `copy_to`, shard by shard: gives the element up to which it has come, after each piece."""
        for place in self._places:
            tensor = place.read()
            if self._in_place and place.dtype == tf.float32:
                values = np.asarray(memoryview(tensor)).reshape(-1)
            else:
                values = tensor.numpy().astype(np.float32).reshape(-1)
            start = place.span.start
            while start < place.span.stop:
                stop = min((start // SHARD_ELEMENTS + 1) * SHARD_ELEMENTS, place.span.stop)
                np.copyto(vector[start:stop], values[start - place.span.start : stop - place.span.start])
                yield stop
                start = stop

    def merge_difference(self, weight: float, arrived: np.ndarray | None = None, number: int = 0) -> None:
        """Merge what lies in an inbox: `x += weight * inbox`, for statistics `x += weight * (inbox - x)`.

        With `inbox = y - x0` this is `x += weight * (y - x0)`: the progress made since `x0` is kept.

        Args:
            weight: The peer's share.
            arrived: For each variable whether it has arrived; statistics that have not stay as they are. All have
                where None. Of what is trained, the inbox holds 0 where nothing has arrived.
            number: Which inbox.
        """
        rates = {dtype: tf.constant(-weight, dtype) for dtype in {place.dtype for place in self._places}}
        for row, place in enumerate(self._places):
            change = place.tensors[number]
            if not place.trainable:
                if arrived is not None and not arrived[row]:
                    continue
                change -= tf.cast(place.read(), tf.float32)
            if place.dtype != tf.float32:
                change = tf.cast(change, place.dtype)
            # One pass over the memory, in place, by all threads: a step of descent along the change, backwards.
            tf.raw_ops.ResourceApplyGradientDescent(var=place.handle, alpha=rates[place.dtype], delta=change)

    def adopt(self, number: int = 0) -> None:
        """Replace every variable by what lies in an inbox."""
        for variable, place in zip(self._variables, self._places, strict=True):
            # Assigning the tensor itself would make the variable share the inbox's memory.
            variable.value.assign(tf.cast(tf.raw_ops.DeepCopy(x=place.tensors[number]), place.dtype))

    def adopt_trained(self, number: int = 0, within: slice | None = None) -> None:
        """Replace trained variables by what lies in an inbox; statistics stay this node's own.

        Args:
            number: Which inbox.
            within: Elements of the vector: variables that lie in none of them are left alone; all are replaced if None.
        """
        for place in self._places:
            if within is not None and not (place.span.start < within.stop and within.start < place.span.stop):
                continue
            if place.trainable:
                value = tf.cast(tf.raw_ops.DeepCopy(x=place.tensors[number]), place.dtype)
                tf.raw_ops.AssignVariableOp(resource=place.handle, value=value)

    def assign(self, vector: Float32Vector) -> None:
        """Replace every variable by a vector of the spec's layout."""
        np.copyto(self._inboxes[0], vector)
        self.adopt()

    def warm_up(self) -> None:
        """Make now the kernels that the first merge would otherwise wait for; with weight 0 it changes nothing."""
        self._inboxes[0][:] = 0
        self.merge_difference(0.0)


def exchanged(model: keras.Model) -> list[keras.Variable]:
    """The model's floating-point weights, in model order."""
    if not model.built:
        raise ModelUnavailable(
            f"the model {model.name!r} is not built", "give it an Input layer, or call model.build(input_shape)"
        )
    return [variable for variable in model.weights if "float" in variable.dtype]


def spec_of(model: keras.Model) -> WeightSpec:
    """The layout of a model's exchanged variables.

    Keras numbers its automatic names by what else a process has built (`dense_7`); the numbers are taken off here, so
    that the same code gives the same layout in every script.
    """
    variables = exchanged(model)
    trainable = {id(variable) for variable in model.trainable_variables}
    seen: Counter[str] = Counter()
    rows = []
    for variable in variables:
        name = _NUMBER.sub("", variable.path)
        seen[name] += 1
        if seen[name] > 1:
            name += f"#{seen[name]}"
        rows.append((name, tuple(variable.shape), variable.dtype, id(variable) in trainable))
    if not rows:
        raise ModelUnavailable(f"the model {model.name!r} has no weights to exchange")
    return WeightSpec.layout(rows)
