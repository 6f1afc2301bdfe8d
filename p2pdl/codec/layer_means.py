"""Mean magnitudes of the difference, variable by variable, taken before any shard of the variable is sent."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from p2pdl.codec.sparsifier import Layer
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector

_PIECE = 1 << 15
"""Elements worked on at a time (128 KiB): fresh memory costs more than the sum, and pieces this small are reused."""


class LayerMeans:
    """The means of one version against one copy.

    A variable may lie in several shards, which are asked for one by one while the copy changes under them. Its mean is
    therefore taken once, when the first of them is asked for, and kept until there is another version. Only shards
    that the copy has had before are counted: elsewhere the difference is the weights themselves.

    Args:
        layers: The variables' elements in the flat vector.
        shards: How many shards there are.
    """

    def __init__(self, layers: Sequence[slice], shards: int) -> None:
        self._layers = tuple(layers)
        self._of_shard: list[list[int]] = [[] for _ in range(shards)]
        for index, layer in enumerate(self._layers):
            for number in _shards_of(layer):
                self._of_shard[number].append(index)
        self._version: Hashable = None
        self._means: dict[int, float] = {}
        self._seen: set[int] = set()

    def of_shard(
        self,
        number: int,
        vector: Float32Vector,
        copy: Float32Vector,
        digests: Sequence[int],
        version: Hashable,
        whole: bool,
    ) -> list[Layer]:
        """The layers of a shard with their means; to be called before the shard's copy changes.

        Args:
            number: Which shard.
            vector: The weights, shape (size,).
            copy: The copy, shape (size,).
            digests: The digest of each shard of the copy; 0 where there is none yet.
            version: Identity of the vector.
            whole: True if the shard is about to be sent whole. A second delta of a shard in one version can only be
                a second pull, for which the means are taken anew; a shard sent whole may just be a repetition.
        """
        if version != self._version or (number in self._seen and not whole):
            self._version = version
            self._means.clear()
            self._seen.clear()
        self._seen.add(number)
        start = number * SHARD_ELEMENTS
        layers = []
        for index in self._of_shard[number]:
            layer = self._layers[index]
            if index not in self._means:
                self._means[index] = _mean(layer, vector, copy, digests)
            span = slice(max(layer.start - start, 0), min(layer.stop - start, SHARD_ELEMENTS))
            layers.append(Layer(span, self._means[index]))
        return layers


def _shards_of(layer: slice) -> range:
    return range(layer.start // SHARD_ELEMENTS, -(-layer.stop // SHARD_ELEMENTS) if layer.stop > layer.start else 0)


def _mean(layer: slice, vector: Float32Vector, copy: Float32Vector, digests: Sequence[int]) -> float:
    total, count = 0.0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for number in _shards_of(layer):
            if digests[number]:
                start = number * SHARD_ELEMENTS
                part = slice(max(layer.start, start), min(layer.stop, start + SHARD_ELEMENTS))
                total += _magnitude(vector[part], copy[part])
                count += part.stop - part.start
    return total / count if count else 0.0


def _magnitude(values: Float32Vector, held: Float32Vector) -> float:
    total = 0.0
    for start in range(0, values.size, _PIECE):
        piece = slice(start, start + _PIECE)
        difference = values[piece] - held[piece]
        total += float(np.abs(difference, out=difference).sum())
    if not np.isfinite(total):
        total = float(np.abs(values.astype(np.float64) - held).sum())
    return total
