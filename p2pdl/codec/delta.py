"""Deltas: what a puller's copy of the weights lacks is sent little by little, the greatest differences first.

CHOCO-SGD: Koloskova, Stich, Jaggi, "Decentralized Stochastic Optimization and Gossip Algorithms with Compressed
Communication", 2019, Algorithm 2: q = Q(x - x_hat), x_hat += q at both ends, so that nothing unsent is ever lost.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.delta_payload import ALL, Shard, max_nbytes, read_delta, shards_of, write_delta
from p2pdl.codec.delta_settings import DeltaSettings
from p2pdl.codec.indices import Indices, encode_indices
from p2pdl.codec.layer_means import LayerMeans
from p2pdl.codec.payload import require_finite
from p2pdl.codec.sparse_values import VALUE_CODINGS, ValueCoding
from p2pdl.codec.sparsifier import SPARSIFIERS, Layer
from p2pdl.errors import RejectedWeights
from p2pdl.spec import SHARD_ELEMENTS, shard_digest
from p2pdl.types import Float32Vector

__all__ = ["DeltaSettings", "ReceivedCopy", "SentCopy", "Update", "max_nbytes"]


@dataclass(frozen=True, slots=True)
class Update:
    """What a payload has changed in a shard of the copy.

    Attributes:
        indices: The entries that were sent, as ascending indices in the shard; None for every entry.
        values: What the copy has there, float32, read-only where it is a view; for every entry, valid until the
            shard's next payload.
    """

    indices: Indices | None
    values: Float32Vector


class SentCopy:
    """The server's end for one puller: the copy that this puller has, as far as the server knows.

    Args:
        spans: The variables' elements in the flat vector, in order.
        always: Those of `spans` that hold statistics, in order; they are sent in every delta as they are.
        size: Elements of the flat vector.
        settings: What both ends have agreed on.

    Raises:
        ValueError: The spans are not in order or not in the vector.
    """

    def __init__(self, spans: Sequence[slice], always: Sequence[slice], size: int, settings: DeltaSettings) -> None:
        self._settings = settings
        self._sparsifier = SPARSIFIERS[settings.sparsifier](settings.density)
        self._coding = VALUE_CODINGS[settings.values]()
        self._shards = shards_of(size, always)
        self._copy: Float32Vector = np.zeros(size, np.float32)
        self._digests = [0] * len(self._shards)
        self._scratch: Float32Vector = np.empty(min(size, SHARD_ELEMENTS), np.float32)
        self._means: LayerMeans | None = None
        if self._sparsifier.layerwise:
            statistics = {(span.start, span.stop) for span in always}
            layers = [span for span in spans if (span.start, span.stop) not in statistics]
            self._means = LayerMeans(layers, len(self._shards))

    @property
    def nbytes(self) -> int:
        """Memory that the copy holds, with room to work in."""
        return self._copy.nbytes + self._scratch.nbytes

    def encode(self, number: int, vector: Float32Vector, version: Hashable, known: int, seed: int) -> tuple[Bytes, int]:
        """The next payload of a shard; the copy moves with it, whether or not it will arrive.

        Args:
            number: Which shard.
            vector: The whole vector of this version, shape (size,).
            version: Identity of the vector.
            known: Digest of the puller's copy of the shard. If it is not the one of the copy here, the shard is sent
                whole; 0 if the puller has none.
            seed: Not used: nothing here is left to chance.

        Returns:
            The payload, and the digest that the puller's copy of the shard must have afterwards, never 0.

        Raises:
            ValueError: A weight of the shard is not finite; nothing has changed then.
        """
        shard = self._shards[number]
        target, held = vector[shard.span], self._copy[shard.span]
        require_finite(target)
        whole = known == 0 or known != self._digests[number]
        layers = []
        if self._means is not None:
            layers = self._means.of_shard(number, vector, self._copy, self._digests, version, whole)
        kind, indices, kept = ALL, np.empty(0, np.uint8), None
        if whole:
            held[:] = 0.0
        else:
            kind, indices, kept = self._select(shard, target, held, layers)
        base = _base(self._coding, shard, held, kept)
        values = self._coding.encode(shard.take(target, kept), base)
        statistics = target.take(shard.always)
        _move(shard, held, kept, self._coding.apply(values, base), statistics)
        self._digests[number] = digest = _digest(held)
        count = shard.entries if kept is None else kept.size
        return write_delta(self._settings, whole, kind, count, statistics, values, indices), digest

    def _select(
        self, shard: Shard, target: Float32Vector, held: Float32Vector, layers: Sequence[Layer]
    ) -> tuple[int, Bytes, Indices | None]:
        with np.errstate(over="ignore"):
            difference = np.subtract(target, held, out=self._scratch[: shard.size])
        magnitudes = np.abs(difference, out=difference)
        magnitudes[shard.always] = 0.0
        kept = self._sparsifier.select(magnitudes, shard.entries, layers)
        kind, indices = encode_indices(kept, shard.size)
        if indices.size + self._coding.nbytes(kept.size) >= self._coding.nbytes(shard.entries):
            return ALL, np.empty(0, np.uint8), None
        return kind, indices, kept


class ReceivedCopy:
    """The puller's end for one peer.

    Args:
        always: Where the flat vector holds statistics, in order.
        size: Elements of the flat vector.
        settings: What both ends have agreed on.

    Raises:
        ValueError: The spans are not in order or not in the vector.
    """

    has_copies = True

    def __init__(self, always: Sequence[slice], size: int, settings: DeltaSettings) -> None:
        self._settings = settings
        self._coding = VALUE_CODINGS[settings.values]()
        self._shards = shards_of(size, always)
        self._copy: Float32Vector = np.zeros(size, np.float32)
        self._digests = [0] * len(self._shards)

    @property
    def name(self) -> str:
        """The codec's name on the wire."""
        return self._settings.name

    @property
    def vector(self) -> Float32Vector:
        """The copy, shape (size,), finite; whatever a shard without a digest holds is of no use."""
        return self._copy

    def digest(self, number: int) -> int:
        """Digest of the copy of a shard; 0 if it was never received or has been found wrong."""
        return self._digests[number]

    def decode(self, number: int, payload: Payload, digest: int) -> Update:
        """Take in a payload.

        Args:
            number: Which shard.
            payload: What `SentCopy.encode` made, or anything else.
            digest: What the peer says that the copy's digest is afterwards.

        Raises:
            RejectedWeights: `code` is `length`, `payload` or `not-finite` if the payload is malformed, and nothing
                has changed then; `digest` if the copy is not the peer's, and the shard counts as never received.
        """
        shard = self._shards[number]
        delta = read_delta(self._settings, shard, payload)
        indices = None if delta.kept is None else shard.with_statistics(delta.kept)
        if not delta.whole and not self._digests[number]:
            raise RejectedWeights(f"a difference has come for shard {number}, of which there is no copy", code="digest")
        held = self._copy[shard.span]
        if delta.whole:
            held[:] = 0.0
        base = _base(self._coding, shard, held, delta.kept)
        moved = self._coding.apply(delta.values, base)
        _move(shard, held, delta.kept, moved, delta.statistics)
        reached = _digest(held)
        self._digests[number] = reached if reached == digest else 0
        if reached != digest:
            text = f"the copy of shard {number} is not the peer's: digest {reached:016x}, not {digest:016x}"
            raise RejectedWeights(text, "nothing to do: the shard is asked for whole", code="digest")
        if indices is not None:
            return Update(indices, held.take(indices) if shard.always.size else moved)
        view = held.view()
        view.flags.writeable = False
        return Update(None, view)


def _base(coding: ValueCoding, shard: Shard, held: Float32Vector, kept: Indices | None) -> Float32Vector:
    return shard.take(held, kept) if coding.relative else held[:0]


def _move(
    shard: Shard, held: Float32Vector, kept: Indices | None, moved: Float32Vector, statistics: Float32Vector
) -> None:
    shard.put(held, kept, moved)
    held[shard.always] = statistics


def _digest(held: Float32Vector) -> int:
    """The digest of a shard's copy: 1 in place of 0, which means that there is none."""
    return shard_digest(held) or 1
