"""Which entries of a shard a delta holds: a bit for each, or the gaps between them, whichever is shorter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pdl.codec.contract import Bytes
from p2pdl.errors import RejectedWeights

Indices = NDArray[np.intp]
"""Entries of a shard in ascending order, shape (count,)."""

BITMAP, GAPS = 1, 2
"""How indices are coded: one bit for each entry, lowest bit first; or one byte for each gap."""

_SKIP = 255
"""As a gap: 255 entries are passed over and none is named. Longer gaps begin with as many of these as they need."""


def encode_indices(indices: Indices, size: int) -> tuple[int, Bytes]:
    """Code indices of a shard.

    Args:
        indices: Ascending, shape (count,).
        size: Entries of the shard.

    Returns:
        `BITMAP` or `GAPS`, and the code.
    """
    bitmap_nbytes = -(-size // 8)
    if indices.size < bitmap_nbytes:
        gaps = _gaps(indices)
        if gaps.size < bitmap_nbytes:
            return GAPS, gaps
    bits = np.zeros(size, np.bool_)
    bits[indices] = True
    return BITMAP, np.packbits(bits, bitorder="little")


def decode_indices(kind: int, code: Bytes, count: int, size: int) -> Indices:
    """The indices that a stranger's code stands for: ascending, each below `size`, `count` of them.

    Args:
        kind: `BITMAP` or `GAPS`.
        code: Shape (nbytes,).
        count: How many indices there have to be.
        size: Entries of the shard.

    Raises:
        RejectedWeights: The code is malformed; `code` is `length` or `payload`.
    """
    if kind == BITMAP:
        indices = _read_bitmap(code, size)
    elif kind == GAPS:
        indices = _read_gaps(code, count, size)
    else:
        raise RejectedWeights(f"the peer's delta has indices of the unknown kind {kind}", code="payload")
    if indices.size != count:
        raise RejectedWeights(f"the peer's delta names {indices.size} entries, not {count}", code="payload")
    return indices


def _gaps(indices: Indices) -> Bytes:
    gaps = np.diff(indices, prepend=-1) - 1
    # Several times as fast as divmod.
    skips = gaps // _SKIP
    code = np.full(indices.size + int(skips.sum()), _SKIP, np.uint8)
    code[np.cumsum(skips + 1) - 1] = gaps - _SKIP * skips
    return code


def _read_gaps(code: Bytes, count: int, size: int) -> Indices:
    if not count <= code.size <= count + size // _SKIP:
        raise RejectedWeights(f"the peer's delta has {code.size} bytes for {count} gaps", code="length")
    named = code != _SKIP
    passed = np.cumsum(code + named.astype(np.intp))
    if code.size and (not named[-1] or passed[-1] > size):
        raise RejectedWeights(f"the peer's delta names entries behind the {size} of a shard", code="payload")
    indices: Indices = passed[named] - 1
    return indices


def _read_bitmap(code: Bytes, size: int) -> Indices:
    if code.size != -(-size // 8):
        raise RejectedWeights(f"the peer's delta has {code.size} bytes of bits for {size} entries", code="length")
    bits = np.unpackbits(code, bitorder="little")
    if bits[size:].any():
        raise RejectedWeights(f"the peer's delta names entries behind the {size} of a shard", code="payload")
    return np.flatnonzero(bits[:size].view(np.bool_))
