"""A Keras optimizer that drops, variable by variable, the gradient entries below the mean.

Cui, "Decentralized Deep Learning with Gradient Compression", 2019, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import keras
import tensorflow as tf

from p2pdl.errors import StartupError

_ROUNDING = 1e-5
"""Relative error of a float32 mean: without this slack the mean of equal entries can exceed all of them."""

_TINY = 1.2e-38
"""The least normal float32, by which a threshold of zero lies below entries of zero."""

_COUNTED_EXACTLY = 1 << 16
"""Entries of a variable up to which `density` counts each one; of larger ones it counts a sixteenth."""


def _magnitude_margin(gradient: tf.Tensor) -> tf.Tensor:
    magnitudes = tf.abs(gradient)
    return magnitudes - (tf.reduce_mean(magnitudes) * (1.0 - _ROUNDING) - _TINY)


def _signed_margin(gradient: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(gradient)
    return gradient - (mean - _ROUNDING * tf.abs(mean) - _TINY)


RULES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "magnitude": _magnitude_margin,
    "signed": _signed_margin,
}
"""How far each entry of a dense gradient lies above its threshold: those above zero are kept."""

_SET_ON_INNER = frozenset(
    {
        "learning_rate",
        "weight_decay",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "use_ema",
        "ema_momentum",
        "ema_overwrite_frequency",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    }
)


@keras.saving.register_keras_serializable(package="p2pdl")
class MeanThreshold(keras.optimizers.Optimizer):
    """Pass to the inner optimizer only the gradient entries at or above their variable's mean.

    With `g` the gradient of one variable, each entry is kept or set to zero:

    * `magnitude`: kept where `|g| >= mean(|g|)`;
    * `signed`: kept where `g >= mean(g)`, the paper's rule to the letter, which drops nearly every
      negative entry and hardly learns.

    The mask is part of the compiled step and comes before whatever the inner optimizer does (clipping,
    accumulation, weight decay, momentum). With `error_feedback` what was dropped is added to the next
    step's gradient: `a = g + r`, `sent = mask(a)`, `r = a - sent`.

    Gradients of lookups (`tf.IndexedSlices`) are made dense: their mean is over the whole table. Under mixed
    precision the order is `LossScaleOptimizer(MeanThreshold(inner))`, which is what `Model.compile` makes
    of a `MeanThreshold`.

    Args:
        inner_optimizer: A Keras optimizer, or its name such as `"sgd"`, or its serialized form.
        rule: `"magnitude"` or `"signed"`.
        error_feedback: Whether to carry over what the mask dropped; costs one copy of the model in memory.
        name: The optimizer's name.

    Raises:
        StartupError: Keras does not run on TensorFlow.
        TypeError: `inner_optimizer` is no optimizer.
        ValueError: An argument has a value that cannot be used.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str | dict[str, Any],
        rule: str = "magnitude",
        error_feedback: bool = False,
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        _require_tensorflow()
        _refuse(unsupported)
        if rule not in RULES:
            raise ValueError(f"`rule` must be one of {', '.join(RULES)}. Received: rule={rule!r}")
        inner_optimizer = _resolve_inner(inner_optimizer)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.rule = rule
        self.error_feedback = bool(error_feedback)
        self._residuals = []
        self._density = keras.Variable(1.0, dtype="float32", trainable=False, aggregation="mean", name="density")

    @property
    def density(self) -> keras.Variable:
        """Kept entries over all entries of the last step's gradients: a float32 scalar, 1 before the first.

        Counted exactly for variables of up to 65 536 entries, estimated from a sixteenth of larger ones. Variables
        without a gradient are not counted. It is no state: it is neither saved nor restored.
        """
        return self._density

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the residuals and the inner optimizer's variables.

        Args:
            variables: The model's trainable variables.
        """
        super().build(variables)
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        if self.error_feedback:
            self._residuals = self.add_optimizer_variables(variables, "residual")

    def apply(self, grads, trainable_variables=None) -> None:
        """Mask the gradients and let the inner optimizer apply them.

        Args:
            grads: A tensor, `tf.IndexedSlices` or None for each variable.
            trainable_variables: The variables in the same order; those of `build` if not given.
        """
        grads = list(grads)
        if trainable_variables is None:
            if not self.built:
                raise ValueError(
                    "The first call of `apply` needs `trainable_variables`, or `build` must be called before it."
                )
            trainable_variables = self._trainable_variables
        trainable_variables = list(trainable_variables)
        if len(grads) != len(trainable_variables):
            raise ValueError(f"Received {len(grads)} gradients for {len(trainable_variables)} variables.")
        if not self.built:
            self.build(trainable_variables)
        self._check_variables_are_known(trainable_variables)
        self.inner_optimizer.apply(self._masked(grads, trainable_variables), trainable_variables)

    def apply_gradients(self, grads_and_vars):
        """Like `apply`, for (gradient, variable) pairs; returns `iterations`."""
        super().apply_gradients(grads_and_vars)
        return self.iterations

    def _masked(self, gradients, variables):
        """The gradients without their small entries; writes `density` and the residuals."""
        sent, kept, entries = [], [], 0
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is None or self._overwrite_variable_with_gradient(variable):
                sent.append(gradient)
                continue
            dense = _dense(gradient, variable)
            residual = self._residuals[self._get_variable_index(variable)] if self.error_feedback else None
            if residual is not None:
                dense += tf.cast(residual.value, dense.dtype)
            margin = RULES[self.rule](dense)
            # One pass over the memory, where comparing, casting and multiplying take three.
            masked = tf.raw_ops.ReluGrad(gradients=dense, features=margin)
            if residual is not None:
                self.assign(residual, dense - masked)
            sent.append(tf.cast(masked, gradient.dtype))
            kept.append(_kept_entries(margin))
            entries += prod(variable.shape)
        if entries:
            self._density.assign(tf.add_n(kept) / entries)
        return sent

    @property
    def variables(self):
        """The residuals, if there are any, and the inner optimizer's variables."""
        return [*self._own_state(), *self.inner_optimizer.variables]

    def _own_state(self):
        return [residual for residual in self._residuals if residual is not None]

    def save_own_variables(self, store) -> None:
        """Store the residuals; Keras stores the inner optimizer by itself."""
        for index, residual in enumerate(self._own_state()):
            store[str(index)] = residual.numpy()

    def load_own_variables(self, store) -> None:
        """Restore the residuals; those of another kind of `MeanThreshold` are left out."""
        for index, residual in enumerate(self._own_state()):
            if str(index) in store:
                residual.assign(store[str(index)])

    @property
    def learning_rate(self):
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        """The inner optimizer's number of steps."""
        return self.inner_optimizer.iterations

    @property
    def loss_scale_factor(self):
        """The inner optimizer's fixed loss scale, or None."""
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        # The base constructor sets it too, before there is an inner optimizer.
        if hasattr(self, "inner_optimizer"):
            self.inner_optimizer.loss_scale_factor = factor

    def scale_loss(self, loss):
        """Scale the loss as the inner optimizer wants it."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list) -> None:
        """Let the inner optimizer write its averages into the variables, if it keeps any."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, the inner optimizer serialized."""
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "rule": self.rule,
            "error_feedback": self.error_feedback,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None) -> MeanThreshold:
        """The optimizer of a `get_config`, without its state."""
        arguments = dict(config)
        inner = keras.saving.deserialize_keras_object(arguments.pop("inner_optimizer"), custom_objects=custom_objects)
        return cls(inner, **arguments)


def _kept_entries(margin: tf.Tensor) -> tf.Tensor:
    """How many entries lie above their threshold, float32; for large variables estimated from 64 in every 1024."""
    size = margin.shape.num_elements()
    if size <= _COUNTED_EXACTLY:
        return tf.reduce_sum(tf.cast(margin > 0, tf.float32))
    rows = size // 1024
    sample = tf.reshape(tf.reshape(margin, [-1])[: rows * 1024], (rows, 1024))[:, :64]
    return tf.reduce_mean(tf.cast(sample > 0, tf.float32)) * size


def _dense(gradient: tf.Tensor | tf.IndexedSlices, variable: keras.Variable) -> tf.Tensor:
    """The gradient as a tensor of the variable's shape, in float32 at least: 16 bits cannot hold the sums."""
    if isinstance(gradient, tf.IndexedSlices):
        gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return gradient if gradient.dtype == tf.float64 else tf.cast(gradient, tf.float32)


def _require_tensorflow() -> None:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise StartupError(
            f"MeanThreshold needs Keras on TensorFlow, but Keras runs on {backend}",
            "set the environment variable KERAS_BACKEND=tensorflow before Keras is imported",
        )


def _refuse(arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        if name in _SET_ON_INNER:
            raise ValueError(f"Set `{name}` on the inner optimizer. Received: {name}={value!r}")
        raise TypeError(f"MeanThreshold has no argument `{name}`. Received: {name}={value!r}")


def _resolve_inner(inner: Any) -> keras.optimizers.Optimizer:
    if isinstance(inner, str | dict):
        inner = keras.optimizers.get(inner)
    if not isinstance(inner, keras.optimizers.Optimizer):
        raise TypeError(f"`inner_optimizer` must be a Keras optimizer or the name of one. Received: {inner!r}")
    if isinstance(inner, MeanThreshold):
        raise ValueError("`inner_optimizer` is a MeanThreshold already: a second mask would drop entries twice.")
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "Wrap the other way round, LossScaleOptimizer(MeanThreshold(inner)): "
            "the mask must see gradients without the loss scale."
        )
    return inner
