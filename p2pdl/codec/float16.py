"""IEEE 754 half precision: 11 significant bits in a small range, rounded to nearest even."""

from __future__ import annotations

import numpy as np

from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.payload import exact_bytes, refuse_not_finite, require_finite
from p2pdl.types import Float32Vector

_LARGEST = np.float32(65504.0)
"""The largest float16."""


class Float16:
    """2 bytes an element; magnitudes above 65504 become 65504, those below 3e-8 become 0."""

    name = "float16"
    word_nbytes = 2

    def encode(self, values: Float32Vector, seed: int) -> Bytes:
        """The values rounded to float16, little-endian.

        Raises:
            ValueError: A value is not finite.
        """
        require_finite(values)
        with np.errstate(all="ignore"):
            return np.clip(values, -_LARGEST, _LARGEST).astype("<f2").view(np.uint8)

    def decode(self, payload: Payload, out: Float32Vector) -> Float32Vector:
        """Fills `out`.

        Raises:
            RejectedWeights: See `Codec.decode`.
        """
        rounded = exact_bytes(payload, self.max_nbytes(out.size)).view("<f2")
        with np.errstate(all="ignore"):
            np.copyto(out, rounded)
        refuse_not_finite(out)
        return out

    def max_nbytes(self, size: int) -> int:
        """2 bytes an element."""
        return 2 * size

    def error_bound(self, values: Float32Vector) -> Float32Vector:
        """Half a unit in the last place, 2^-11 of the magnitude or 2^-25, and all that is above 65504."""
        magnitudes = np.abs(values)
        with np.errstate(all="ignore"):
            rounding = np.maximum(np.minimum(magnitudes, _LARGEST) * np.float32(2.0**-11), np.float32(2.0**-25))
            # Rounded up, as this difference is not exact for great magnitudes.
            excess = np.minimum(np.nextafter(magnitudes - _LARGEST, np.float32(np.inf)), magnitudes)
            return np.maximum(rounding, excess)
