"""Loss functions by the names that Keras gives them, with or without logits as the model demands."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import keras

from p2pdl.errors import ModelUnavailable


def resolve(name: str, model: keras.Model) -> keras.losses.Loss:
    """The loss of a configuration, its mean over the batch.

    Losses that can take logits are told to, unless the model ends in a softmax or sigmoid.

    Args:
        name: `auto` (sparse categorical cross-entropy), or any name that Keras knows, such as
            `sparse_categorical_crossentropy`, `SparseCategoricalCrossentropy` or `mse`.
        model: The built model.

    Raises:
        ModelUnavailable: Keras knows no such loss.
    """
    loss_class = _loss_class("sparse_categorical_crossentropy" if name == "auto" else name)
    arguments: dict[str, Any] = {}
    if "from_logits" in inspect.signature(loss_class).parameters:
        arguments["from_logits"] = not ends_in_probabilities(model)
    return loss_class(**arguments)


def ends_in_probabilities(model: keras.Model) -> bool:
    """Whether the model's last operation is a softmax or sigmoid; a model without a known last one has logits."""
    last = _last_operation(model)
    activation = getattr(last, "activation", None)
    return activation in (keras.activations.softmax, keras.activations.sigmoid) or type(last).__name__ in (
        "Softmax",
        "Sigmoid",
    )


def _last_operation(model: keras.Model) -> Any:
    """The layer or operation that makes the output, looking into models within the model."""
    operations = getattr(model, "operations", None) or model.layers
    last = operations[-1] if operations else None
    return _last_operation(last) if isinstance(last, keras.Model) else last


def _loss_class(name: str) -> type[keras.losses.Loss]:
    classes = {
        _plain(key): value
        for key, value in vars(keras.losses).items()
        if inspect.isclass(value) and issubclass(value, keras.losses.Loss) and value is not keras.losses.Loss
    }
    try:
        found = keras.losses.get(name)
    except ValueError:
        near = difflib.get_close_matches(_plain(name), classes, n=1)
        hint = f"; the nearest one is {classes[near[0]].__name__}" if near else ""
        raise ModelUnavailable(
            f"Keras has no loss {name!r}{hint}",
            "set train.loss to auto, or a name in keras.losses such as sparse_categorical_crossentropy",
        ) from None
    # Keras gives a function for a name such as `mse`, and an instance for one such as `MeanSquaredError`.
    return type(found) if isinstance(found, keras.losses.Loss) else classes[_plain(found.__name__)]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
