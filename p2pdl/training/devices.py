"""The graphics processors that TensorFlow sees."""

from __future__ import annotations

import tensorflow as tf


def gpu_names() -> list[str]:
    """Their names as their makers gave them, or else TensorFlow's; one for each."""
    return [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
