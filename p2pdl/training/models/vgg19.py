"""VGG-19 with batch normalisation, its head cut to one layer for small images.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
configuration E.
"""

from __future__ import annotations

import keras

from p2pdl.training.models.images import halve, image_input
from p2pdl.training.models.units import scaled

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block; a block ends in pooling."""

STATISTICS_MOMENTUM = 0.9
"""Of the moving statistics: Keras' 0.99 needs hundreds of steps before a model can be evaluated at all."""


def vgg19(input_shape: tuple[int, ...], classes: int, width: float) -> keras.Model:
    """Sixteen 3 x 3 convolutions in five blocks, global average pooling, then logits.

    For 32 x 32 x 3 images and 10 classes it has 20.05 M values at width 1 and 1.26 M at width 0.25.

    Args:
        input_shape: (height, width) or (height, width, channels) of one image, of any size.
        classes: Number of logits.
        width: Factor on the number of channels.

    Raises:
        ModelUnavailable: `input_shape` is no image's.
    """
    model = keras.Sequential(image_input(input_shape, "vgg19"), name="vgg19")
    for block, (channels, convolutions) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            place = f"{block}_{number}"
            # The normalisation's shift makes a bias before it superfluous.
            model.add(
                keras.layers.Conv2D(scaled(channels, width), 3, padding="same", use_bias=False, name=f"conv_{place}")
            )
            model.add(keras.layers.BatchNormalization(momentum=STATISTICS_MOMENTUM, name=f"norm_{place}"))
            model.add(keras.layers.ReLU(name=f"relu_{place}"))
        model.add(halve(f"pool_{block}"))
    model.add(keras.layers.GlobalAveragePooling2D(name="mean"))
    model.add(keras.layers.Dense(classes, name="logits"))
    return model
