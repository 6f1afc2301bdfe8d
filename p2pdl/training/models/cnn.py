"""A small convolutional network, for images from 8 x 8 pixels."""

from __future__ import annotations

import keras

from p2pdl.training.models.images import halve, image_input
from p2pdl.training.models.units import scaled


def cnn(input_shape: tuple[int, ...], classes: int, width: float) -> keras.Model:
    """Two blocks of 3 x 3 convolution and pooling (32 and 64 channels), a dense layer of 128, then logits.

    Args:
        input_shape: (height, width) or (height, width, channels) of one image.
        classes: Number of logits.
        width: Factor on the number of channels and units.

    Raises:
        ModelUnavailable: `input_shape` is no image's.
    """
    model = keras.Sequential(image_input(input_shape, "cnn"), name="cnn")
    for number, channels in enumerate((32, 64), start=1):
        model.add(
            keras.layers.Conv2D(scaled(channels, width), 3, padding="same", activation="relu", name=f"conv_{number}")
        )
        model.add(halve(f"pool_{number}"))
    model.add(keras.layers.Flatten(name="flatten"))
    model.add(keras.layers.Dense(scaled(128, width), activation="relu", name="dense"))
    model.add(keras.layers.Dense(classes, name="logits"))
    return model
