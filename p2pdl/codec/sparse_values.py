"""How the values of a delta travel, and what they make of the copy, which both ends compute by the same function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pdl.codec.blocks import BLOCK, blocks_in, by_block
from p2pdl.codec.contract import Bytes
from p2pdl.codec.finite import is_finite
from p2pdl.codec.payload import refuse_not_finite
from p2pdl.types import Float32Vector

_PIECE = 64 * BLOCK
"""Values worked on at a time (64 KiB), which stay in the cache and in memory that is used again and again."""

_STEPS = 127
"""The greatest int8 step; the steps go from -127 to 127."""

_LEAST_SCALE = np.float32(2.0**-90)
"""Finer steps are not taken: no copy then ever holds a number so small that some machines treat it as zero."""

_GREATEST = np.finfo(np.float32).max


class ValueCoding(Protocol):
    """One form of the values of a delta. It has no state."""

    relative: bool
    """True if the bytes say how far to move the copy; False if they say what to set it to."""

    def nbytes(self, count: int) -> int:
        """Bytes that this many values take."""
        ...

    def encode(self, values: Float32Vector, held: Float32Vector) -> Bytes:
        """The bytes that bring a copy towards the values.

        Args:
            values: Finite, shape (count,).
            held: What the copy has in their place, finite, shape (count,); empty unless the coding is relative.
        """
        ...

    def check(self, code: Bytes) -> None:
        """Refuse a stranger's bytes that would make a copy not finite.

        Args:
            code: Shape (nbytes(count),).

        Raises:
            RejectedWeights: A number in them is not finite; `code` is `not-finite`.
        """
        ...

    def apply(self, code: Bytes, held: Float32Vector) -> Float32Vector:
        """What the copy has afterwards, the same bits on every machine, shape (count,), finite.

        Args:
            code: What `encode` made or `check` let pass.
            held: As in `encode`.
        """
        ...


class Float32Values:
    """The values themselves, so that the copy holds their exact bits: 4 bytes for each."""

    relative = False

    def nbytes(self, count: int) -> int:
        """Four bytes for each."""
        return 4 * count

    def encode(self, values: Float32Vector, held: Float32Vector) -> Bytes:
        """The values' little-endian bytes."""
        return np.ascontiguousarray(values, "<f4").view(np.uint8)

    def check(self, code: Bytes) -> None:
        """See `ValueCoding.check`."""
        refuse_not_finite(code.view("<f4"))

    def apply(self, code: Bytes, held: Float32Vector) -> Float32Vector:
        """The values, a view of the code."""
        return code.view("<f4")


class Int8Values:
    """The difference to the copy in 255 steps: one byte for each value, and a float32 scale for each 256.

    Rounded to the nearest step, which no chance improves on here: what rounding leaves over is in the next
    difference. The scale is the block's greatest difference divided by 127.
    """

    relative = True

    def nbytes(self, count: int) -> int:
        """One byte for each value and four for each block."""
        return count + 4 * blocks_in(count)

    def encode(self, values: Float32Vector, held: Float32Vector) -> Bytes:
        """The scales, then the steps."""
        code = np.empty(self.nbytes(values.size), np.uint8)
        scales, steps = self._parts(code)
        for start in range(0, values.size, _PIECE):
            piece = slice(start, start + _PIECE)
            scales[start // BLOCK : (start + _PIECE) // BLOCK], steps[piece] = _coarse(values[piece], held[piece])
        return code

    def check(self, code: Bytes) -> None:
        """See `ValueCoding.check`."""
        refuse_not_finite(self._parts(code)[0])

    def apply(self, code: Bytes, held: Float32Vector) -> Float32Vector:
        """The copy moved by each step times its scale; one product and one sum in float32, never beyond its range."""
        scales, steps = self._parts(code)
        moved = np.empty(steps.size, np.float32)
        with np.errstate(over="ignore"):
            by_block(np.multiply, steps, scales, moved)
            moved += held
        return np.clip(moved, -_GREATEST, _GREATEST, out=moved)

    def _parts(self, code: Bytes) -> tuple[Float32Vector, NDArray[np.int8]]:
        # count + 4 ceil(count / 256) bytes have one block for each 260, the last one shorter.
        blocks = -(-code.size // (BLOCK + 4))
        return code[: 4 * blocks].view("<f4"), code[4 * blocks :].view(np.int8)


def _coarse(values: Float32Vector, held: Float32Vector) -> tuple[Float32Vector, NDArray[np.int8]]:
    """The scale of each block of the difference, and its steps."""
    blocks = np.zeros((blocks_in(values.size), BLOCK), np.float32)
    difference = blocks.reshape(-1)[: values.size]
    with np.errstate(over="ignore"):
        np.subtract(values, held, out=difference)
    if not is_finite(difference):
        np.clip(difference, -_GREATEST, _GREATEST, out=difference)
    scales = np.abs(blocks).max(axis=1) / np.float32(_STEPS)
    scales[scales < _LEAST_SCALE] = 0.0
    blocks *= np.divide(np.float32(1.0), scales, out=np.zeros_like(scales), where=scales > 0.0)[:, None]
    return scales, np.rint(blocks, out=blocks).astype(np.int8).reshape(-1)[: values.size]


VALUE_CODINGS: dict[str, Callable[[], ValueCoding]] = {
    "float32": Float32Values,
    "int8": Int8Values,
}
"""Codings of a delta's values by the name that a codec's name uses. Their order is their number in a payload."""
