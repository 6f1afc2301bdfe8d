"""Loads Keras without two libraries that it takes along where they are installed, and that training never uses."""

from __future__ import annotations

import sys

UNUSED = ("matplotlib", "sklearn")
"""For its galleries of images and its wrappers of models: three tenths of the time in which Keras loads."""


def load_keras() -> None:
    """Load Keras and TensorFlow; afterwards everybody can import those libraries as usual.

    Without effect where Keras is loaded already. In this process `keras.wrappers` and `keras.visualization` then behave
    as where those libraries are not installed.
    """
    if "keras" in sys.modules:
        return
    hidden = [name for name in UNUSED if name not in sys.modules]
    # What stands there as None is not found.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import keras  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
