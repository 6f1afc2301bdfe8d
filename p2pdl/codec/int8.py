"""One byte an element with a scale for each block, rounded by chance so that the mean is exact.

Alistarh et al., QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding (2017), equation (4), with
blocks scaled by their greatest magnitude and 127 levels on either side of 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pdl.codec.blocks import BLOCK, blocks_in, by_block
from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.payload import exact_bytes, refuse_not_finite, require_finite
from p2pdl.errors import RejectedWeights
from p2pdl.types import Float32Vector

LEVELS = np.float32(127.0)
"""Levels on either side of 0."""

SMALLEST_SCALE = np.finfo(np.float32).smallest_normal
"""Below it a scale would lose digits, and the bound and the mean with them."""

LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / LEVELS, np.float32(0.0))
"""Above it 127 steps would overflow."""


_PIECE = 256 * BLOCK
"""Values worked on at a time (256 KiB), which stay in the cache from one pass to the next."""

_ODD = np.uint16(1)


class Int8:
    """A little over 1 byte an element; the scales come first, as little-endian float32, then the levels.

    A value becomes one of the two levels around it, the nearer one with the greater probability. Its error is
    less than one step, 1/127 of the greatest magnitude of its block, and 0 on average.
    """

    name = "int8"
    word_nbytes = 1

    def encode(self, values: Float32Vector, seed: int) -> Bytes:
        """Scales, then `floor(value / scale + u)` with u uniform between 0 and 1.

        Raises:
            ValueError: A value is not finite.
        """
        payload = np.empty(self.max_nbytes(values.size), np.uint8)
        scales, levels = _parts(payload, values.size)
        chance = np.random.SFC64(seed)
        steps, dither = np.empty((2, min(values.size, _PIECE)), np.float32)
        with np.errstate(all="ignore"):
            for start in range(0, values.size, _PIECE):
                piece = slice(start, min(start + _PIECE, values.size))
                blocks = slice(start // BLOCK, blocks_in(piece.stop))
                size = piece.stop - start
                _to_steps(values[piece], scales[blocks], steps[:size])
                steps[:size] += _dither(chance, dither[:size])
                np.floor(steps[:size], out=steps[:size])
                np.copyto(levels[piece], steps[:size], casting="unsafe")
        return payload

    def decode(self, payload: Payload, out: Float32Vector) -> Float32Vector:
        """Fills `out` with `level * scale`.

        Raises:
            RejectedWeights: See `Codec.decode`; a scale below 0 and the level -128, which no encoder makes, have
                the code `payload`.
        """
        scales, levels = _parts(exact_bytes(payload, self.max_nbytes(out.size)), out.size)
        with np.errstate(all="ignore"):
            refuse_not_finite(scales * LEVELS)
            if scales.min() < 0.0 or levels.min() < -LEVELS:
                raise RejectedWeights("the peer's int8 weights are malformed", code="payload")
            by_block(np.multiply, levels, scales, out)
        return out

    def max_nbytes(self, size: int) -> int:
        """1 byte an element and 4 a block."""
        return 4 * blocks_in(size) + size

    def error_bound(self, values: Float32Vector) -> Float32Vector:
        """One step of the value's block, and 2^-16 of it for the rounding of float32."""
        with np.errstate(all="ignore"):
            steps = _scales(_greatest(np.abs(values))) * np.float32(1.0 + 2.0**-16)
        return np.repeat(steps, BLOCK)[: values.size]


def _parts(payload: Bytes, size: int) -> tuple[Float32Vector, NDArray[np.int8]]:
    """Views of the scales and the levels in a payload of the right length."""
    boundary = 4 * blocks_in(size)
    return payload[:boundary].view("<f4"), payload[boundary:].view(np.int8)


def _greatest(magnitudes: Float32Vector) -> Float32Vector:
    """The greatest magnitude of each block; NaN or infinite where one of them is."""
    # Floats that are not negative are ordered as their bits are, NaN last, and integers are compared faster.
    bits = magnitudes.view(np.int32)
    whole = magnitudes.size - magnitudes.size % BLOCK
    greatest = np.empty(blocks_in(magnitudes.size), np.int32)
    np.maximum.reduce(bits[:whole].reshape(-1, BLOCK), axis=1, out=greatest[: whole // BLOCK])
    if whole < magnitudes.size:
        greatest[-1] = bits[whole:].max()
    return greatest.view(np.float32)


def _scales(greatest: Float32Vector) -> Float32Vector:
    """The step of each block; 0 for a block of zeros would divide by 0, so it gets the smallest one."""
    scales: Float32Vector = np.clip(greatest / LEVELS, SMALLEST_SCALE, LARGEST_SCALE)
    return scales


def _to_steps(values: Float32Vector, scales: Float32Vector, steps: Float32Vector) -> None:
    """Write the scale of each block into `scales`, and each value in units of it, 127 at most, into `steps`."""
    np.abs(values, out=steps)
    greatest = _greatest(steps)
    require_finite(greatest)
    scales[:] = _scales(greatest)
    # A product takes a quarter of the time of a quotient, and may be beyond 127 by its rounding.
    by_block(np.multiply, values, np.float32(1.0) / scales, steps)
    np.clip(steps, -LEVELS, LEVELS, out=steps)


def _dither(chance: np.random.SFC64, dither: Float32Vector) -> Float32Vector:
    """Uniform odd multiples of 2^-16 between 0 and 1: symmetric around one half, and cheap."""
    random = chance.random_raw(-(-dither.size // 4)).astype("<u8", copy=False).view("<u2")[: dither.size]
    np.copyto(dither, random | _ODD)
    dither *= np.float32(2.0**-16)
    return dither
