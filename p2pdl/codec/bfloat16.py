"""The upper half of float32: its whole range with 8 significant bits, rounded to nearest even."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.payload import exact_bytes, refuse_not_finite, require_finite
from p2pdl.types import Float32Vector

_LARGEST = np.float32(2.0**128 - 2.0**120)
"""The largest bfloat16."""


class Bfloat16:
    """2 bytes an element; magnitudes above the largest bfloat16, 3.39e38, become that."""

    name = "bfloat16"
    word_nbytes = 2

    def encode(self, values: Float32Vector, seed: int) -> Bytes:
        """The values rounded to bfloat16, little-endian.

        Raises:
            ValueError: A value is not finite.
        """
        require_finite(values)
        with np.errstate(all="ignore"):
            rounded = np.clip(values, -_LARGEST, _LARGEST).astype(ml_dtypes.bfloat16)
        return rounded.view(np.uint16).astype("<u2", copy=False).view(np.uint8)

    def decode(self, payload: Payload, out: Float32Vector) -> Float32Vector:
        """Fills `out`.

        Raises:
            RejectedWeights: See `Codec.decode`.
        """
        words = exact_bytes(payload, self.max_nbytes(out.size)).view("<u2").astype(np.uint16, copy=False)
        with np.errstate(all="ignore"):
            np.copyto(out, words.view(ml_dtypes.bfloat16))
        refuse_not_finite(out)
        return out

    def max_nbytes(self, size: int) -> int:
        """2 bytes an element."""
        return 2 * size

    def error_bound(self, values: Float32Vector) -> Float32Vector:
        """Half a unit in the last place: 2^-8 of the magnitude; 2^-134 where bfloat16 is subnormal."""
        with np.errstate(all="ignore"):
            return np.maximum(np.abs(values) * np.float32(2.0**-8), np.float32(2.0**-134))
