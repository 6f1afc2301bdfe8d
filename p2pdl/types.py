"""Names shared by every room."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NodeId = str
"""A node's name, unique in its cluster."""

Float32Vector = NDArray[np.float32]
"""A flat float32 array, shape (size,)."""

Indices = NDArray[np.intp]
"""Ascending places in a vector, shape (count,)."""

MixingMatrix = NDArray[np.float64]
"""Row-stochastic, shape (n, n): row i holds the weights with which node i averages all nodes."""

JsonObject = dict[str, Any]


def printable(text: str) -> str:
    """The text without line breaks and control characters: what a peer has sent may end up on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
