"""Another codec's bytes made smaller without loss: byte planes, deflated (RFC 1951) with runs and Huffman codes only.

The first bytes of all numbers come first, then the second bytes: signs and exponents, of which few are used, lie
together. On weights, the search for longer matches costs twice the time and finds nothing.
"""

from __future__ import annotations

import zlib

import numpy as np

from p2pdl.codec.contract import Bytes, Codec, Payload
from p2pdl.codec.payload import payload_bytes
from p2pdl.errors import RejectedWeights
from p2pdl.types import Float32Vector

STORED, DEFLATED = 0, 1
"""The first byte of a payload: the other codec's bytes as they are, or their planes deflated."""

WORTHWHILE = 0.95
"""Deflated bytes are sent if they are at most this share of the others: inflating costs the peer time."""

SUFFIX = "+deflate"


class Deflated:
    """Deflates what another codec makes, where that saves 5 % at least.

    Args:
        inner: The other codec.
    """

    def __init__(self, inner: Codec) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """The other codec's name and `+deflate`."""
        return self._inner.name + SUFFIX

    @property
    def word_nbytes(self) -> int:
        """1."""
        return 1

    def encode(self, values: Float32Vector, seed: int) -> Bytes:
        """One byte that says how, then the bytes.

        Raises:
            ValueError: A value is not finite; where the other codec looks.
        """
        plain = self._inner.encode(values, seed)
        planes = np.ascontiguousarray(plain.reshape(-1, self._inner.word_nbytes).T)
        deflater = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
        deflated = deflater.compress(planes.data) + deflater.flush()
        worthwhile = len(deflated) <= WORTHWHILE * plain.size
        content = np.frombuffer(deflated, np.uint8) if worthwhile else plain
        payload = np.empty(1 + content.size, np.uint8)
        payload[0] = DEFLATED if worthwhile else STORED
        payload[1:] = content
        return payload

    def decode(self, payload: Payload, out: Float32Vector) -> Float32Vector:
        """What the other codec makes of the inflated bytes; no more is inflated than the piece can take.

        Raises:
            RejectedWeights: See `Codec.decode`.
        """
        view = payload_bytes(payload)
        most = self._inner.max_nbytes(out.size)
        if not 1 <= view.size <= 1 + most:
            raise RejectedWeights(
                f"the peer's weights came as {view.size} bytes, not as 1 to {1 + most}", code="length"
            )
        if view[0] == STORED:
            return self._inner.decode(view[1:], out)
        if view[0] != DEFLATED:
            raise RejectedWeights(f"the peer's weights are marked with {view[0]}, not with 0 or 1", code="payload")
        planes = _inflate(view[1:], most)
        if planes.size % self._inner.word_nbytes:
            raise RejectedWeights("the peer's deflated weights are not whole numbers", code="payload")
        plain = np.ascontiguousarray(planes.reshape(self._inner.word_nbytes, -1).T).reshape(-1)
        return self._inner.decode(plain, out)

    def max_nbytes(self, size: int) -> int:
        """One byte more than the other codec."""
        return 1 + self._inner.max_nbytes(size)

    def error_bound(self, values: Float32Vector) -> Float32Vector:
        """The other codec's."""
        return self._inner.error_bound(values)


def _inflate(deflated: Bytes, most: int) -> Bytes:
    """The inflated bytes of exactly one stream that holds `most` of them or fewer."""
    inflater = zlib.decompressobj()
    try:
        # One byte more than there may be lets the stream come to its end, or shows that it goes on.
        inflated = inflater.decompress(deflated.data, most + 1)
    except zlib.error as error:
        raise RejectedWeights(f"the peer's weights cannot be inflated: {error}", code="payload") from None
    if len(inflated) > most or not inflater.eof or inflater.unused_data:
        raise RejectedWeights("the peer's deflated weights are too long, cut short or followed by more", code="payload")
    return np.frombuffer(inflated, np.uint8)
