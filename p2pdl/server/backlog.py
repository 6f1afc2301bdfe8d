"""Encoded replies that nobody has read yet: counted, so that readers that do not read cannot hoard them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKLOG_NBYTES = 96 << 20
"""Bytes of encoded replies that may wait to be sent."""


class Backlog:
    """Knows how many bytes of encoded weights are still to be sent: the transport drops a frame when it has left.

    Args:
        limit: Bytes from which it is full.
    """

    def __init__(self, limit: int = BACKLOG_NBYTES) -> None:
        self._limit = limit
        self._waiting: list[tuple[weakref.ref[NDArray[Any]], int]] = []

    def add(self, frames: Iterable[object]) -> None:
        """Count a reply's payload, as far as it is memory of this process and no part of the store."""
        self._waiting += [
            (weakref.ref(frame), frame.nbytes)
            for frame in frames
            if isinstance(frame, np.ndarray) and frame.dtype == np.uint8
        ]

    @property
    def is_full(self) -> bool:
        """True while as much waits as may."""
        self._waiting = [(frame, nbytes) for frame, nbytes in self._waiting if frame() is not None]
        return sum(nbytes for _, nbytes in self._waiting) >= self._limit
