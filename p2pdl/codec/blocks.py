"""Values that share a scale, block by block, which is how both forms of `int8` travel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pdl.types import Float32Vector

BLOCK = 256
"""Values that share a scale: 4 bytes for 256 values are 1.6 %."""


def blocks_in(size: int) -> int:
    """Blocks that so many values make up, the last one perhaps shorter."""
    return -(-size // BLOCK)


def by_block(
    operation: np.ufunc,
    values: Float32Vector | NDArray[np.int8],
    scales: Float32Vector,
    out: Float32Vector,
) -> None:
    """`operation(value, scale of its block)` for each value."""
    whole = values.size - values.size % BLOCK
    columns = scales[: whole // BLOCK, np.newaxis]
    operation(values[:whole].reshape(-1, BLOCK), columns, out=out[:whole].reshape(-1, BLOCK))
    if whole < values.size:
        operation(values[whole:], scales[-1], out=out[whole:])
