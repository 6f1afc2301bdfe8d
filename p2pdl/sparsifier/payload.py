"""The bytes of a selection, shard by shard: a header of 8 bytes, the values, the indices; all little-endian.

| bytes | what |
|---|---|
| 1 | how the indices are coded: 0 for all entries, 1 and 2 see `codec.indices`, 3 for gaps between those left out |
| 1 | how the values are coded: their place in `VALUE_CODINGS` |
| 2 | 0 |
| 4 | how many values there are |
| | the values |
| the rest | the indices |

The values of a whole shard are coded as the codec of the same name does it.
"""

from __future__ import annotations

import struct

import numpy as np

from p2pdl import codec
from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.indices import BITMAP, GAPS, decode_indices, encode_indices
from p2pdl.codec.payload import payload_bytes
from p2pdl.codec.sparse_values import VALUE_CODINGS
from p2pdl.errors import RejectedWeights
from p2pdl.sparsifier.contract import Selection
from p2pdl.sparsifier.spans import untrained_indices
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, shards_in
from p2pdl.types import Float32Vector, Indices

ALL, LEFT_OUT = 0, 3
"""As the kind of indices: none, for every entry of the shard is sent; or the gaps of those that are not."""

OVERHEAD = 2048
"""Bytes that a shard's payload may have beside 4 for each element, at most."""

_HEADER = struct.Struct("<BBHI")


class SelectionCoding:
    """Selections to bytes, and back out of anybody's bytes.

    Args:
        spec: The layout of the vector.
        values: A key of `VALUE_CODINGS`: `float32` is exact; `int8` takes a byte for each value and rounds it, to
            the nearest step where entries are selected, and by chance where all of a shard are sent.

    Raises:
        ValueError: The name is unknown.
    """

    def __init__(self, spec: WeightSpec, values: str = "float32") -> None:
        if values not in VALUE_CODINGS:
            raise ValueError(f"there is no coding of values {values!r}; there are {', '.join(VALUE_CODINGS)}")
        self._size = spec.size
        self._values_kind = list(VALUE_CODINGS).index(values)
        self._sparse = VALUE_CODINGS[values]()
        self._whole = codec.create(values)
        untrained = untrained_indices(spec)
        places = np.searchsorted(untrained, np.arange(shards_in(spec.size) + 1) * SHARD_ELEMENTS)
        self._untrained = [
            untrained[begin:end] - number * SHARD_ELEMENTS
            for number, (begin, end) in enumerate(zip(places, places[1:], strict=False))
        ]

    def encode(self, selection: Selection, seed: int = 0, part: range | None = None) -> list[tuple[int, Bytes]]:
        """The payload of each shard that has entries, by its number, ascending.

        Args:
            selection: A selection of a vector of this layout.
            seed: 0 or more; decides how `int8` rounds whole shards. Give another one each time.
            part: The shards that are wanted; all where None.
        """
        wanted = range(shards_in(self._size)) if part is None else part
        if selection.indices is None:
            return [
                (number, self._encode_whole(selection.values[self._span(number)], seed + number)) for number in wanted
            ]
        bounds = np.searchsorted(selection.indices, np.arange(shards_in(self._size) + 1) * SHARD_ELEMENTS)
        payloads = []
        for number, (begin, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
            if begin < end and number in wanted:
                indices = selection.indices[begin:end] - number * SHARD_ELEMENTS
                payloads.append((number, self._encode_entries(number, indices, selection.values[begin:end])))
        return payloads

    def decode(self, number: int, payload: Payload) -> tuple[Indices | None, Float32Vector]:
        """The entries of a payload that may come from anybody.

        Nothing is allocated before the length is known to be one that this shard can have.

        Args:
            number: The shard.
            payload: What `encode` made, or anything else.

        Returns:
            Places in the shard, ascending, and values, all finite; or None and a value for each element of the shard,
            which are zero for padding and what is not trained. They may be read-only views of the payload.

        Raises:
            RejectedWeights: There is no such shard, or the bytes are malformed; `code` is `payload`.
        """
        if not 0 <= number < shards_in(self._size):
            raise RejectedWeights(f"the update has a shard {number} of {shards_in(self._size)}", code="payload")
        try:
            return self._decode(number, payload_bytes(payload))
        except RejectedWeights as refusal:
            message = f"shard {number} of the update: {refusal.message}"
            raise RejectedWeights(message, refusal.remedy, code="payload") from None

    def _span(self, number: int) -> slice:
        return slice(number * SHARD_ELEMENTS, min((number + 1) * SHARD_ELEMENTS, self._size))

    def _shard_size(self, number: int) -> int:
        span = self._span(number)
        return int(span.stop - span.start)

    def _encode_whole(self, values: Float32Vector, seed: int) -> Bytes:
        header = _HEADER.pack(ALL, self._values_kind, 0, values.size)
        return np.concatenate((np.frombuffer(header, np.uint8), self._whole.encode(values, seed)))

    def _encode_entries(self, number: int, indices: Indices, values: Float32Vector) -> Bytes:
        size = self._shard_size(number)
        if size - indices.size < -(-size // 8):
            left_out = np.ones(size, np.bool_)
            left_out[indices] = False
            kind, code = encode_indices(np.flatnonzero(left_out), size)
            # Few enough are left out for gaps to be shorter; where they are not, the bits of the others serve.
            kind, code = (LEFT_OUT, code) if kind == GAPS else encode_indices(indices, size)
        else:
            kind, code = encode_indices(indices, size)
        header = _HEADER.pack(kind, self._values_kind, 0, indices.size)
        coded = self._sparse.encode(values, _zeros(values.size))
        return np.concatenate((np.frombuffer(header, np.uint8), coded, code))

    def _decode(self, number: int, data: Bytes) -> tuple[Indices | None, Float32Vector]:
        size = self._shard_size(number)
        if not _HEADER.size <= data.size <= 4 * size + OVERHEAD:
            raise RejectedWeights(f"there are {data.size} bytes for {size} elements")
        kind, values_kind, zero, count = _HEADER.unpack(data[: _HEADER.size].tobytes())
        if kind not in (ALL, BITMAP, GAPS, LEFT_OUT) or values_kind != self._values_kind or zero or count > size:
            raise RejectedWeights(f"it begins with {data[: _HEADER.size].tobytes().hex()}")
        if kind == ALL:
            return None, self._decode_whole(number, count, data[_HEADER.size :])
        stop = _HEADER.size + self._sparse.nbytes(count)
        if data.size < stop:
            raise RejectedWeights(f"there are {data.size} bytes, and {count} values alone take {stop}")
        coded, code = data[_HEADER.size : stop], data[stop:]
        if kind == LEFT_OUT:
            sent = np.ones(size, np.bool_)
            sent[decode_indices(GAPS, code, size - count, size)] = False
            indices = np.flatnonzero(sent)
        else:
            indices = decode_indices(kind, code, count, size)
        self._refuse_untrained(number, indices)
        self._sparse.check(coded)
        return indices, self._sparse.apply(coded, _zeros(count))

    def _decode_whole(self, number: int, count: int, coded: Bytes) -> Float32Vector:
        size = self._shard_size(number)
        if count != size:
            raise RejectedWeights(f"it has {count} values for {size} elements")
        values = self._whole.decode(coded, np.empty(size, np.float32))
        if values.take(self._untrained[number]).any():
            raise RejectedWeights("it changes what is not trained")
        return values

    def _refuse_untrained(self, number: int, indices: Indices) -> None:
        untrained = self._untrained[number]
        if not indices.size or not untrained.size:
            return
        places = np.searchsorted(indices, untrained)
        if (indices.take(places, mode="clip") == untrained).any():
            raise RejectedWeights("it changes what is not trained")


def _zeros(count: int) -> Float32Vector:
    """What `int8` takes differences to: nothing, in no memory."""
    return np.broadcast_to(np.float32(0.0), count)
