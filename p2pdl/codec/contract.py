"""What a codec does: it turns a piece of the flat float32 vector into the bytes of one frame, and back."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pdl.types import Float32Vector

Bytes = NDArray[np.uint8]
"""A contiguous array of bytes, shape (nbytes,)."""

Payload = bytes | memoryview | Bytes
"""The bytes of one frame as they arrive."""


class Codec(Protocol):
    """A form of weights on the wire.

    A piece is a shard of the vector, or the shorter last one: any size from 1. A codec has no state, so one of them
    serves any number of pieces and threads.
    """

    @property
    def name(self) -> str:
        """The codec's name on the wire and in the configuration."""
        ...

    @property
    def word_nbytes(self) -> int:
        """Bytes of one number of the payload; 1 where numbers of several lengths are mixed."""
        ...

    def encode(self, values: Float32Vector, seed: int) -> Bytes:
        """The values as bytes; the same values and seed give the same bytes.

        Args:
            values: Contiguous and finite, shape (size,), size >= 1.
            seed: 0 or more; decides all chance.

        Raises:
            ValueError: A value is not finite; `float32`, which sends values as they are, does not look.
        """
        ...

    def decode(self, payload: Payload, out: Float32Vector) -> Float32Vector:
        """The values of a payload that may come from anybody.

        Args:
            payload: What `encode` made, or anything else.
            out: Contiguous, shape (size,), the size of the piece; overwritten or left as it is.

        Returns:
            Shape (size,), all finite: `out`, or a read-only view of the payload.

        Raises:
            RejectedWeights: `code` is `length` if the payload cannot be a piece of this size, `not-finite` if it
                holds a value that is not finite, `payload` if it is malformed in another way.
        """
        ...

    def max_nbytes(self, size: int) -> int:
        """The most bytes that a piece of this many elements takes."""
        ...

    def error_bound(self, values: Float32Vector) -> Float32Vector:
        """How far each value can be from the original after a round trip, shape (size,).

        Args:
            values: The originals, shape (size,).
        """
        ...
