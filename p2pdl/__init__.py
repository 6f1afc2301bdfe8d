"""Train one Keras model on many machines with no server in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pdl._version import VERSION as __version__

if TYPE_CHECKING:
    from p2pdl.node.attach import Gossip
    from p2pdl.training.mean_threshold import MeanThreshold

__all__ = ["Gossip", "MeanThreshold", "__version__"]

_HOMES = {"Gossip": "p2pdl.node.attach", "MeanThreshold": "p2pdl.training.mean_threshold"}


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to load: only who uses one of these names pays for it.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'p2pdl' has no attribute {name!r}")
