"""Where a pulled vector arrives, shard by shard, in the form that the merge needs, and how far away it is."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from p2pdl.errors import RejectedWeights
from p2pdl.merge.clipping import Distance
from p2pdl.spec import ALIGNMENT, SHARD_ELEMENTS, Variable, WeightSpec
from p2pdl.types import Float32Vector, Indices


class Inbox:
    """One vector of the model's size, allocated once.

    With a base `x0` (the node's own weights when the pull began) it receives `y - x0` for what is trained and `y` for
    statistics, so that merging needs no second vector; or `y` itself, where that is asked for or there is no base. Of
    what does not arrive, since only a part or only some entries were sent, what is trained is 0 and statistics are
    marked as missing. The distance from the base is summed up on the way, while a shard is in the cache.

    Args:
        spec: The model's layout.

    Attributes:
        vector: What has arrived, aligned to 64 bytes.
        is_whole: True if every entry has arrived.
    """

    def __init__(self, spec: WeightSpec) -> None:
        self.vector = aligned_empty(spec.size)
        self._base: Float32Vector | None = None
        self._raw = False
        self._variables = spec.variables
        self._statistics = _Spans(spec.state_spans)
        self._variances = _Spans([variable.span for variable in spec.variables if _is_variance(variable)])
        self._arrived = np.zeros(-(-spec.size // SHARD_ELEMENTS), bool)
        self._sparse = False
        # Shards that hold something of an earlier pull.
        self._stale = np.zeros_like(self._arrived)
        self._square = 0.0
        self._entries = 0

    @property
    def is_whole(self) -> bool:
        """True if every entry has arrived."""
        return bool(self._arrived.all()) and not self._sparse

    @property
    def distance(self) -> Distance:
        """How far what has arrived is from the base; statistics do not count."""
        return Distance(math.sqrt(self._square), self._entries, self._sparse and not self._raw)

    def expect(self, base: Float32Vector | None, raw: bool = False) -> None:
        """Prepare for a new vector `y`.

        Args:
            base: What its distance is measured from; None for nothing.
            raw: True to receive `y` as it is, as it always is without a base.
        """
        self._base, self._raw = base, raw
        self._stale |= self._arrived
        self._arrived[:] = False
        self._sparse = False
        self._square, self._entries = 0.0, 0

    def accept(self, offset: int, values: Float32Vector, indices: Indices | None = None) -> None:
        """Take values of the shard that begins at `offset`: those at `indices`, or all.

        Raises:
            RejectedWeights: A moving variance is negative (`negative-variance`).
        """
        number = offset // SHARD_ELEMENTS
        shard = self.vector[offset : offset + SHARD_ELEMENTS]
        self._check_variances(offset, shard.size, values, indices)
        if self._base is None or self._raw:
            _put(shard, values, indices)
            if self._base is not None:
                # Entries that were not sent are zeros of `y` here, and as far away as any others.
                difference = _difference(shard, self._base[offset : offset + shard.size], np.empty_like(shard))
                self._measure(offset, difference, shard.size)
        else:
            base = self._base[offset : offset + shard.size]
            if indices is None:
                _difference(values, base, shard)
            else:
                shard[:] = 0
                shard[indices] = _difference(values, base[indices], np.empty_like(values))
            self._measure(offset, shard, values.size)
            for span in self._statistics.within(offset, shard.size):
                places, sent = _sent(span, values, indices)
                shard[places] = sent
        self._sparse = self._sparse or indices is not None
        self._arrived[number], self._stale[number] = True, False

    def clear_missing(self) -> None:
        """Set the shards that did not arrive in this pull to 0."""
        for number in np.flatnonzero(self._stale):
            self.vector[number * SHARD_ELEMENTS : (number + 1) * SHARD_ELEMENTS] = 0
        self._stale[:] = False

    def arrived(self) -> NDArray[np.bool_]:
        """For each variable, whether all shards that it lies in have arrived, so that statistics may be averaged."""
        spans = [variable.span for variable in self._variables]
        return np.array(
            [self._arrived[s.start // SHARD_ELEMENTS : -(-s.stop // SHARD_ELEMENTS)].all() for s in spans], bool
        )

    def subtract(self, base: Float32Vector) -> None:
        """Turn a vector received as it is into the difference from `base`."""
        statistics = [self.vector[span].copy() for span in self._statistics.spans]
        np.subtract(self.vector, base, out=self.vector)
        for span, values in zip(self._statistics.spans, statistics, strict=True):
            self.vector[span] = values

    def write_peer(self, out: Float32Vector) -> None:
        """Write the peer's model `x0 + (y - x0)`, with the base wherever nothing of it has come.

        Args:
            out: Takes it, shape (size,).
        """
        self.clear_missing()
        if self._base is None or self._raw:
            np.copyto(out, self.vector)
            return
        np.add(self._base, self.vector, out=out)
        for variable, has_arrived in zip(self._variables, self.arrived(), strict=True):
            if not variable.trainable:
                out[variable.span] = (self.vector if has_arrived else self._base)[variable.span]

    def own_scale(self) -> float:
        """Root mean square of the base's trained entries in the shards that have arrived.

        Raises:
            ValueError: There is no base.
        """
        if self._base is None:
            raise ValueError("there is no base to measure")
        square, entries = 0.0, 0
        for number in np.flatnonzero(self._arrived):
            offset = int(number) * SHARD_ELEMENTS
            own = self._base[offset : offset + SHARD_ELEMENTS].copy()
            entries += own.size - self._blank_statistics(offset, own)
            square += _square(own)
        return math.sqrt(square / entries) if entries else 0.0

    def _measure(self, offset: int, difference: Float32Vector, count: int) -> None:
        """Add a shard's difference, of which `count` entries have come, to the distance; its statistics become 0."""
        self._entries += max(0, count - self._blank_statistics(offset, difference))
        self._square += _square(difference)

    def _blank_statistics(self, offset: int, shard: Float32Vector) -> int:
        """Set a shard's statistics to 0; returns how many there are."""
        blanked = 0
        for span in self._statistics.within(offset, shard.size):
            shard[span] = 0
            blanked += span.stop - span.start
        return blanked

    def _check_variances(self, offset: int, size: int, values: Float32Vector, indices: Indices | None) -> None:
        for span in self._variances.within(offset, size):
            _, sent = _sent(span, values, indices)
            if sent.size and sent.min() < 0.0:
                raise RejectedWeights(
                    f"a moving variance is {sent.min():g}, and variances are not negative",
                    "look at that node: its weights are damaged, or it sends others than it has",
                    code="negative-variance",
                )


class _Spans:
    """Spans of the flat vector, found by shard.

    Args:
        spans: In order, without overlap.
    """

    def __init__(self, spans: Sequence[slice]) -> None:
        self.spans = spans
        self._stops = [span.stop for span in spans]

    def within(self, offset: int, size: int) -> Iterator[slice]:
        """What of them lies in the `size` elements from `offset` on, counted from there."""
        for span in self.spans[bisect_right(self._stops, offset) :]:
            if span.start >= offset + size:
                return
            yield slice(max(span.start - offset, 0), min(span.stop - offset, size))


def _is_variance(variable: Variable) -> bool:
    """Whether a variable holds variances: Keras says so by its name alone."""
    return not variable.trainable and "variance" in variable.name.rpartition("/")[2]


def _put(shard: Float32Vector, values: Float32Vector, indices: Indices | None) -> None:
    if indices is None:
        np.copyto(shard, values)
    else:
        shard[:] = 0
        shard[indices] = values


def _difference(values: Float32Vector, base: Float32Vector, out: Float32Vector) -> Float32Vector:
    # Two finite values can be too far apart for float32: the distance is infinite then, and the vector refused.
    with np.errstate(over="ignore"):
        return np.subtract(values, base, out=out)


def _square(values: Float32Vector) -> float:
    """The sum of the squares. `einsum` adds up in several lanes and, unlike `dot`, starts no threads."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.einsum("i,i->", values, values))
    if math.isfinite(total):
        return total
    # Squares of float32 overflow at 1e19, which is far away but finite.
    wide = values.astype(np.float64)
    return float(np.einsum("i,i->", wide, wide))


def _sent(span: slice, values: Float32Vector, indices: Indices | None) -> tuple[slice | Indices, Float32Vector]:
    """Where the values of a span lie in the shard, and what they are; deltas always carry statistics whole."""
    if indices is None:
        return span, values[span]
    first, last = np.searchsorted(indices, (span.start, span.stop))
    return indices[first:last], values[first:last]


def aligned_empty(size: int) -> Float32Vector:
    """A float32 array of `size` elements whose first one lies at a multiple of 64 bytes."""
    raw = np.zeros(size + ALIGNMENT, np.float32)
    start = (-raw.ctypes.data % (4 * ALIGNMENT)) // 4
    return raw[start : start + size]
