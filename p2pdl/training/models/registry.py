"""The built-in models by name, and how any model of a configuration is built."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from p2pdl.errors import ModelUnavailable
from p2pdl.training.models.cnn import cnn
from p2pdl.training.models.mlp import mlp
from p2pdl.training.models.vgg19 import vgg19
from p2pdl.training.user_function import call_user_function, describe

MODELS: dict[str, Callable[[tuple[int, ...], int, float], keras.Model]] = {
    "mlp": mlp,
    "cnn": cnn,
    "vgg19": vgg19,
}
"""Builders of the built-in models: (input_shape, classes, width) -> a model that ends in logits."""


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    width: float = 1.0,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> keras.Model:
    """Build a model, with the same first weights wherever it is built with the same seed.

    Python's, numpy's and TensorFlow's global random states are seeded for it.

    Args:
        name: A key of `MODELS`, or `module:function`. The function gets `arguments`, and of `input_shape`,
            `classes` and `width` those that it names.
        input_shape: Shape of one sample of the data.
        classes: Number of classes in the data.
        width: Factor on the width of the built-in models.
        arguments: Keyword arguments of the user's function.
        seed: Seed of the first weights.
        folder: The configuration file's folder, where the user's module may lie.

    Returns:
        A model whose variables exist and which takes batches of such samples.

    Raises:
        ModelUnavailable: There is no such model, or it cannot be built for this data.
    """
    keras.utils.set_random_seed(seed)
    if ":" in name:
        offered = {"input_shape": input_shape, "classes": classes, "width": width}
        model = call_user_function(name, folder, arguments or {}, offered, ModelUnavailable)
    else:
        model = _build_known(name, input_shape, classes, width, arguments)
    if not isinstance(model, keras.Model):
        raise ModelUnavailable(
            f"{name} returned {_article(model)}, which is no keras.Model",
            "end the function with `return model`",
        )
    _try_out(model, name, input_shape, classes)
    return model


def _build_known(
    name: str, input_shape: tuple[int, ...], classes: int, width: float, arguments: Mapping[str, Any] | None
) -> keras.Model:
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        raise ModelUnavailable(
            f"there is no model {name!r}" + (f"; the nearest name is {near[0]}" if near else ""),
            f"set model.name to {', '.join(MODELS)} or a module:function of your own",
        )
    if arguments:
        raise ModelUnavailable(
            f"the built-in model {name} takes no arguments, found {', '.join(arguments)}",
            "remove model.arguments; the built-in models have only model.width",
        )
    return MODELS[name](tuple(input_shape), classes, width)


def _try_out(model: keras.Model, name: str, input_shape: tuple[int, ...], classes: int) -> None:
    """Run one sample of zeros through the model: creates its variables, and finds what does not fit."""
    try:
        output = model(np.zeros((1, *input_shape), dtype=np.float32), training=False)
    except Exception as error:
        raise ModelUnavailable(
            f"model {name} does not take samples of shape {input_shape}, which this data has: {describe(error)}",
            "give the function a parameter `input_shape`, which it is then called with, and build for that",
        ) from error
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2 or (shape[1] != 1 and shape[1] < classes):
        found = _article(output) if shape is None else f"an output of shape {tuple(shape)}"
        raise ModelUnavailable(
            f"model {name} makes {found} of one sample, but the data has {classes} classes",
            "end the model in one output for each class; a parameter `classes` is passed to the function",
        )
    if not model.trainable_variables:
        raise ModelUnavailable(
            f"model {name} has no trainable variables", "check that its layers are not frozen (`trainable`)"
        )


def _article(value: object) -> str:
    return "nothing (None)" if value is None else f"a {type(value).__name__}"
