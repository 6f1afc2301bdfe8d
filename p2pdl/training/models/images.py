"""What the convolutional models have in common: how they take images."""

from __future__ import annotations

import keras

from p2pdl.errors import ModelUnavailable


def image_input(input_shape: tuple[int, ...], name: str) -> list[keras.layers.Layer]:
    """The first layers of a model of images: height x width x channels, the channel axis added if missing.

    Args:
        input_shape: Shape of one sample.
        name: The model's name, for the message.

    Raises:
        ModelUnavailable: Samples of that shape are no images.
    """
    if len(input_shape) not in (2, 3):
        raise ModelUnavailable(
            f"model {name} takes images (height, width, channels), but a sample of this data has shape {input_shape}",
            "use model.name mlp, or a module:function of your own",
        )
    layers: list[keras.layers.Layer] = [keras.Input(input_shape)]
    if len(input_shape) == 2:
        layers.append(keras.layers.Reshape((*input_shape, 1), name="channel"))
    return layers


def halve(name: str) -> keras.layers.Layer:
    """Pooling over 2 x 2: halves each side, rounding up, so that a side of 1 stays."""
    return keras.layers.MaxPooling2D(2, padding="same", name=name)
