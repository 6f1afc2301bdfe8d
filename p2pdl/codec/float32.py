"""Values as they are: the little-endian bytes of the float32 vector, without a copy."""

from __future__ import annotations

import numpy as np

from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.payload import exact_bytes, refuse_not_finite
from p2pdl.types import Float32Vector


class Float32:
    """Exact, 4 bytes an element."""

    name = "float32"
    word_nbytes = 4

    def encode(self, values: Float32Vector, seed: int) -> Bytes:
        """A read-only view of the values' bytes; values that are not finite are not noticed."""
        payload = np.ascontiguousarray(values, "<f4").view(np.uint8)
        payload.flags.writeable = False
        return payload

    def decode(self, payload: Payload, out: Float32Vector) -> Float32Vector:
        """A read-only view of the payload, or `out` where the payload does not start at a multiple of 4 bytes.

        Raises:
            RejectedWeights: See `Codec.decode`.
        """
        values: Float32Vector = exact_bytes(payload, self.max_nbytes(out.size)).view("<f4")
        refuse_not_finite(values)
        if values.flags.aligned:
            return values
        np.copyto(out, values)
        return out

    def max_nbytes(self, size: int) -> int:
        """4 bytes an element."""
        return 4 * size

    def error_bound(self, values: Float32Vector) -> Float32Vector:
        """0."""
        return np.zeros_like(values)
