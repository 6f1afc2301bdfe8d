"""The two ends of a transfer: what a server needs to encode shards for one puller, and a puller to decode them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pdl.codec import create, is_stateless
from p2pdl.codec.contract import Codec
from p2pdl.codec.delta import DeltaSettings, ReceivedCopy, SentCopy, Update, max_nbytes
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, shard_of
from p2pdl.types import Float32Vector

Frame = bytes | memoryview
Payload = NDArray[np.uint8]


class Encoder(Protocol):
    """The server's end for one puller and one codec."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds between pulls."""
        ...

    def encode(
        self, number: int, vector: Float32Vector, version: Hashable, known: int, seed: int
    ) -> tuple[Payload, int]:
        """The payload of one shard, and the digest that the puller's copy of it has afterwards (0 without a copy).

        Args:
            number: Which shard.
            vector: The whole vector of this version.
            version: Identity of the vector.
            known: Digest of the puller's copy of the shard, 0 if it has none.
            seed: Decides all chance.
        """
        ...


class Decoder(Protocol):
    """The puller's end for one peer and one codec."""

    @property
    def name(self) -> str:
        """The codec's name on the wire."""
        ...

    @property
    def has_copies(self) -> bool:
        """True if requests state the digests of copies."""
        ...

    def digest(self, number: int) -> int:
        """Digest of the copy of a shard; 0 if there is none."""
        ...

    def decode(self, number: int, payload: Frame, digest: int) -> Update:
        """What a payload says about a shard.

        Args:
            number: Which shard.
            payload: A frame of the peer.
            digest: What the peer says the copy's digest is afterwards.

        Raises:
            RejectedWeights: The payload is malformed, its values are not finite, or the copies differ.
        """
        ...


class StatelessEncoder:
    """Encodes with a codec that remembers nothing."""

    nbytes = 0

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(
        self, number: int, vector: Float32Vector, version: Hashable, known: int, seed: int
    ) -> tuple[Payload, int]:
        """See `Encoder.encode`."""
        return self._codec.encode(shard_of(vector, number), seed), 0


class StatelessDecoder:
    """Decodes with a codec that remembers nothing.

    Args:
        codec: The codec.
        size: Elements of the vector.
    """

    has_copies = False

    def __init__(self, codec: Codec, size: int) -> None:
        self.name = codec.name
        self._codec = codec
        self._size = size

    def digest(self, number: int) -> int:
        """See `Decoder.digest`."""
        return 0

    def decode(self, number: int, payload: Frame, digest: int) -> Update:
        """See `Decoder.decode`."""
        length = min(SHARD_ELEMENTS, self._size - number * SHARD_ELEMENTS)
        return Update(None, self._codec.decode(payload, np.empty(length, np.float32)))


def encoder(name: str, spec: WeightSpec) -> Encoder:
    """The server's end of a codec.

    Args:
        name: The codec as on the wire.
        spec: The model's layout.

    Raises:
        ValueError: There is no such codec.
    """
    if is_stateless(name):
        return StatelessEncoder(create(name))
    spans = [variable.span for variable in spec.variables]
    return SentCopy(spans, spec.state_spans, spec.size, DeltaSettings.parse(name))


def decoder(name: str, spec: WeightSpec) -> Decoder:
    """The puller's end of a codec; see `encoder`."""
    if is_stateless(name):
        return StatelessDecoder(create(name), spec.size)
    return ReceivedCopy(spec.state_spans, spec.size, DeltaSettings.parse(name))


def shard_nbytes(name: str, elements: int = SHARD_ELEMENTS) -> int:
    """Bytes of one encoded shard at most.

    Args:
        name: The codec as on the wire.
        elements: Of the shard.

    Raises:
        ValueError: There is no such codec.
    """
    if is_stateless(name):
        return create(name).max_nbytes(elements)
    return max_nbytes(DeltaSettings.parse(name), elements)
