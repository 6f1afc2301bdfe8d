"""A Keras model's weights as the flat vector of its WeightSpec: copied out, merged and replaced without detours.

Nothing here goes through `get_weights` or `set_weights`: tensors of the processor are views of the vector's memory
(DLPack), and a merge is one compiled function over all variables.
"""

from __future__ import annotations

import re
from collections import Counter

import keras
import numpy as np
import tensorflow as tf

from p2pdl.errors import ModelUnavailable
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector

_NUMBER = re.compile(r"_\d+(?=/|$)")


class ModelWeights:
    """The exchanged variables of one model: its floating-point weights, BatchNorm's statistics included.

    Integer state, such as the counters of random generators, stays each node's own.

    Args:
        model: A built Keras model on the TensorFlow backend.
        inbox: The vector that merges take their values from, shape (spec.size,), aligned to 64 bytes; the merge is
            bound to its memory. Made with `spec_of(model)`.
    """

    def __init__(self, model: keras.Model, inbox: Float32Vector) -> None:
        self.spec = spec_of(model)
        self._variables = exchanged(model)
        self._trainable = np.array([place.trainable for place in self.spec.variables])
        self._on_processor = all("CPU" in variable.value.device for variable in self._variables)
        self._inbox = inbox
        self._views = [_view(inbox, variable) for variable in self.spec.variables]
        # Made once: a tensor over the inbox's memory shows whatever has arrived there.
        self._tensors = [tf.experimental.dlpack.from_dlpack(view.__dlpack__()) for view in self._views]
        self._merge_all = tf.function(self._merge_step, autograph=False, jit_compile=False)
        self._assign_all = tf.function(self._assign_step, autograph=False, jit_compile=False)

    def copy_to(self, vector: Float32Vector) -> None:
        """Write every variable into a vector of the spec's layout; the padding is left alone."""
        for place, variable in zip(self.spec.variables, self._variables, strict=True):
            tensor = variable.value.read_value()
            if self._on_processor and variable.dtype == "float32":
                values = np.from_dlpack(tensor)
            else:
                values = tensor.numpy().astype(np.float32)
            np.copyto(_view(vector, place), values)

    def merge_difference(self, weight: float, arrived: np.ndarray | None = None) -> None:
        """Merge what lies in the inbox: `x += weight * inbox`, for statistics `x += weight * (inbox - x)`.

        With `inbox = y - x0` this is `x += weight * (y - x0)`: the progress made since `x0` is kept.

        Args:
            weight: The peer's share.
            arrived: For each variable whether it has arrived; statistics that have not stay as they are. All have
                where None. Of what is trained, the inbox holds 0 where nothing has arrived.
        """
        shares = np.full(len(self._variables), weight, np.float32)
        if arrived is not None:
            shares[~arrived & ~self._trainable] = 0.0
        self._merge_all(tf.constant(shares), self._tensors)

    def adopt(self) -> None:
        """Replace every variable by the inbox."""
        self._assign_all(self._tensors)

    def assign(self, vector: Float32Vector) -> None:
        """Replace every variable by a vector of the spec's layout."""
        np.copyto(self._inbox, vector)
        self.adopt()

    def warm_up(self) -> None:
        """Compile now what the first merge would otherwise wait for; with weight 0 it changes nothing."""
        self._inbox[:] = 0
        self.merge_difference(0.0)

    def _merge_step(self, shares: tf.Tensor, tensors: list[tf.Tensor]) -> None:
        weights = tf.unstack(shares)
        for place, variable, tensor, weight in zip(self.spec.variables, self._variables, tensors, weights, strict=True):
            change = tensor if place.trainable else tensor - tf.cast(variable.value, tf.float32)
            variable.value.assign_add(tf.cast(weight * change, variable.dtype))

    def _assign_step(self, tensors: list[tf.Tensor]) -> None:
        for variable, tensor in zip(self._variables, tensors, strict=True):
            # Assigning the tensor itself would make the variable share the inbox's memory.
            variable.value.assign(tf.cast(tf.raw_ops.DeepCopy(x=tensor), variable.dtype))


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


def _view(vector: Float32Vector, variable) -> Float32Vector:
    return vector[variable.span].reshape(variable.shape)
