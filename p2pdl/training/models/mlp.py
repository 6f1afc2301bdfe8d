"""A multilayer perceptron: three equal dense layers."""

from __future__ import annotations

import keras

from p2pdl.training.models.units import scaled

LAYERS, UNITS = 3, 512


def mlp(input_shape: tuple[int, ...], classes: int, width: float) -> keras.Model:
    """Three dense layers of 512 rectified units each, then logits.

    Args:
        input_shape: Shape of one sample, of any rank.
        classes: Number of logits.
        width: Factor on the number of units.
    """
    model = keras.Sequential([keras.Input(input_shape)], name="mlp")
    if len(input_shape) > 1:
        model.add(keras.layers.Flatten(name="flatten"))
    for number in range(1, LAYERS + 1):
        model.add(keras.layers.Dense(scaled(UNITS, width), activation="relu", name=f"dense_{number}"))
    model.add(keras.layers.Dense(classes, name="logits"))
    return model
