"""The bytes of a shard's delta: a header of 8 bytes, statistics, values, indices; all little-endian.

| bytes | what |
|---|---|
| 1 | 0: a difference to the copy that the puller has; 1: the whole shard, a difference to zeros |
| 1 | how the indices are coded: 0 for all entries, else see `indices` |
| 1 | how the values are coded: their place in `VALUE_CODINGS` |
| 1 | 0 |
| 4 | how many values there are |
| 4 each | the shard's statistics as float32 |
| | the values |
| the rest | the indices |
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.delta_settings import DeltaSettings
from p2pdl.codec.indices import Indices, decode_indices
from p2pdl.codec.payload import payload_bytes, refuse_not_finite
from p2pdl.codec.sparse_values import VALUE_CODINGS
from p2pdl.errors import RejectedWeights
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector

ALL = 0
"""As the kind of indices: every entry but the statistics."""

_HEADER = struct.Struct("<BBBBI")


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard's place in the vector, and the statistics in it, which are sent in every delta.

    Attributes:
        span: Its elements in the flat vector.
        always: Its statistics, as indices in the shard.
        free: Everything else, as slices in the shard, one at least.
    """

    span: slice
    always: Indices
    free: tuple[slice, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.span.stop - self.span.start)

    @property
    def entries(self) -> int:
        """Number of elements that are no statistics."""
        return self.size - self.always.size

    def take(self, values: Float32Vector, kept: Indices | None) -> Float32Vector:
        """The values at these indices, or all that are no statistics; a view where they are together."""
        if kept is not None:
            return values.take(kept)
        if len(self.free) == 1:
            return values[self.free[0]]
        return np.concatenate([values[piece] for piece in self.free])

    def put(self, values: Float32Vector, kept: Indices | None, entries: Float32Vector) -> None:
        """Write what `take` takes."""
        if kept is not None:
            values[kept] = entries
            return
        begin = 0
        for piece in self.free:
            end = begin + piece.stop - piece.start
            values[piece] = entries[begin:end]
            begin = end

    def with_statistics(self, kept: Indices) -> Indices:
        """The indices with those of the statistics among them, ascending.

        Raises:
            RejectedWeights: One of the indices is a statistic's; `code` is `payload`.
        """
        if not self.always.size:
            return kept
        places = np.searchsorted(kept, self.always)
        if (places != np.searchsorted(kept, self.always, side="right")).any():
            raise RejectedWeights("the peer's delta has a statistic among its sparse entries", code="payload")
        return np.insert(kept, places, self.always)


def shards_of(size: int, always: Sequence[slice]) -> tuple[Shard, ...]:
    """The shards of a flat vector.

    Args:
        size: Its elements.
        always: Where it holds statistics: in order, without overlap.

    Raises:
        ValueError: The spans are not in order or not in the vector.
    """
    ends = [0, *(bound for span in always for bound in (span.start, span.stop)), size]
    if any(before > after for before, after in zip(ends, ends[1:], strict=False)):
        raise ValueError(f"spans of statistics must be in order and inside the {size} elements: {list(always)}")
    shards = []
    for start in range(0, size, SHARD_ELEMENTS):
        stop = min(start + SHARD_ELEMENTS, size)
        inside = [slice(max(s.start, start) - start, min(s.stop, stop) - start) for s in always]
        inside = [piece for piece in inside if piece.start < piece.stop]
        begins, finishes = [0, *(p.stop for p in inside)], [*(p.start for p in inside), stop - start]
        gaps = [slice(begin, end) for begin, end in zip(begins, finishes, strict=True) if begin < end]
        places = [np.arange(piece.start, piece.stop) for piece in inside]
        indices = np.concatenate([np.empty(0, np.intp), *places])
        shards.append(Shard(slice(start, stop), indices, tuple(gaps) or (slice(0, 0),)))
    return tuple(shards)


@dataclass(frozen=True, slots=True)
class Delta:
    """A payload taken apart.

    Attributes:
        whole: True if the shard is a difference to zeros.
        kept: The entries that have values; None if all but the statistics have.
        statistics: The shard's statistics, finite.
        values: The coded values, which are known to leave the copy finite.
    """

    whole: bool
    kept: Indices | None
    statistics: Float32Vector
    values: Bytes


def write_delta(
    settings: DeltaSettings,
    whole: bool,
    kind: int,
    count: int,
    statistics: Float32Vector,
    values: Bytes,
    indices: Bytes,
) -> Bytes:
    """The bytes of a delta.

    Args:
        settings: What both ends have agreed on.
        whole: True if the shard is a difference to zeros.
        kind: How the indices are coded.
        count: How many values there are.
        statistics: The shard's statistics.
        values: The coded values.
        indices: The coded indices.
    """
    header = _HEADER.pack(whole, kind, list(VALUE_CODINGS).index(settings.values), 0, count)
    exact = np.ascontiguousarray(statistics, "<f4").view(np.uint8)
    return np.concatenate((np.frombuffer(header, np.uint8), exact, values, indices))


def read_delta(settings: DeltaSettings, shard: Shard, payload: Payload) -> Delta:
    """Take apart a payload that may come from anybody.

    Raises:
        RejectedWeights: It is no delta of this shard; `code` is `length`, `payload` or `not-finite`.
    """
    data = payload_bytes(payload)
    most = max_nbytes(settings, shard.size, shard.always.size)
    if not _HEADER.size <= data.size <= most:
        raise RejectedWeights(f"the peer's delta has {data.size} bytes, not {_HEADER.size} to {most}", code="length")
    whole, kind, values_kind, zero, count = _HEADER.unpack(data[: _HEADER.size].tobytes())
    expected = list(VALUE_CODINGS).index(settings.values)
    if whole > 1 or (whole and kind != ALL) or values_kind != expected or zero or count > shard.entries:
        raise RejectedWeights(f"the peer's delta begins with {bytes(data[: _HEADER.size]).hex()}", code="payload")
    coding = VALUE_CODINGS[settings.values]()
    values_start = _HEADER.size + 4 * shard.always.size
    values_stop = values_start + coding.nbytes(count)
    if data.size < values_stop or (kind == ALL and data.size > values_stop):
        text = f"the peer's delta has {data.size} bytes, {values_stop} without indices for {count} values"
        raise RejectedWeights(text, code="length")
    kept = None
    if kind != ALL:
        kept = decode_indices(kind, data[values_stop:], count, shard.size)
    elif count != shard.entries:
        raise RejectedWeights(f"the peer's delta has {count} values, not {shard.entries}", code="payload")
    statistics, values = data[_HEADER.size : values_start].view("<f4"), data[values_start:values_stop]
    refuse_not_finite(statistics)
    coding.check(values)
    return Delta(bool(whole), kept, statistics, values)


def max_nbytes(settings: DeltaSettings, size: int, always: int = 0) -> int:
    """The most bytes that the delta of a shard takes: what it takes whole, at most `4 * size + 12`.

    Args:
        settings: What both ends have agreed on.
        size: Elements of the shard.
        always: How many of them are statistics. Without it, the bound is the one for any number of them.
    """
    coding = VALUE_CODINGS[settings.values]()
    return _HEADER.size + 4 * always + coding.nbytes(size - always)
