"""Which entries of a difference are worth sending: the sparsifiers and their registry.

Mean threshold: Cui, "Decentralized Deep Learning with Gradient Compression", 2019, Algorithm 1, lines 15-16, applied to
differences of weights. Top k: Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Protocol

import numpy as np

from p2pdl.codec.indices import Indices
from p2pdl.types import Float32Vector

_TINY: np.float32 = np.nextafter(np.float32(0.0), np.float32(1.0))
"""The least magnitude that is kept: an entry without a difference is never sent."""

_GREATEST = float(np.finfo(np.float32).max)

_ROUNDING = 1e-5
"""Relative error of a float32 mean: without this slack the mean of equal entries can exceed all of them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The part of a variable that lies in one shard.

    Attributes:
        span: Its elements in the shard.
        mean: Mean magnitude of the difference over the whole variable.
    """

    span: slice
    mean: float


class Sparsifier(Protocol):
    """A rule that selects the entries of a shard to send. It has no state and draws on no chance."""

    layerwise: bool
    """True if it looks at `layers`; otherwise there may be none."""

    def select(self, magnitudes: Float32Vector, entries: int, layers: Sequence[Layer]) -> Indices:
        """The entries to send, ascending, none of which is zero.

        Args:
            magnitudes: Absolute differences, shape (size,); zero where the rule has nothing to decide.
            entries: For how many of them the rule decides.
            layers: The shard's parts of trained variables.
        """
        ...


class MeanThreshold:
    """Keeps what is at least as great as the mean magnitude of its variable: 42 % of normal differences."""

    layerwise = True

    def select(self, magnitudes: Float32Vector, entries: int, layers: Sequence[Layer]) -> Indices:
        """See `Sparsifier.select`."""
        kept = np.zeros(magnitudes.size, np.bool_)
        for layer in layers:
            threshold = max(np.float32(min(layer.mean * (1.0 - _ROUNDING), _GREATEST)), _TINY)
            np.greater_equal(magnitudes[layer.span], threshold, out=kept[layer.span])
        return np.flatnonzero(kept)


class TopK:
    """Keeps the k greatest of the shard's entries, k = ceil(density * entries); fewer if fewer differ from zero.

    A sample yields a threshold which somewhat more than k entries pass, and only those are put in order, which takes
    a fifth of the time that ordering all of them takes. Where the sample misleads, all of them are.

    Args:
        density: Share of the entries, above 0, 1 at most.
    """

    layerwise = False

    _STRIDE = 31
    """Every 31st entry is in the sample: a prime, so that no width of a layer is a multiple of it by chance."""

    def __init__(self, density: float) -> None:
        self._density = density

    def select(self, magnitudes: Float32Vector, entries: int, layers: Sequence[Layer]) -> Indices:
        """See `Sparsifier.select`. Of equal entries those are kept which the partition happens to put first."""
        count = ceil(self._density * entries)
        candidates = np.flatnonzero(magnitudes >= self._estimate(magnitudes, count))
        if candidates.size < count:
            candidates = np.flatnonzero(magnitudes)
        excess = candidates.size - count
        if excess <= 0:
            return candidates
        kept = np.ones(candidates.size, np.bool_)
        kept[np.argpartition(magnitudes.take(candidates), excess)[:excess]] = False
        return candidates[kept]

    def _estimate(self, magnitudes: Float32Vector, count: int) -> np.float32:
        """A magnitude that `count` entries reach nearly always: four standard deviations more are expected to."""
        sample = magnitudes[:: self._STRIDE]
        expected = count / self._STRIDE
        place = sample.size - ceil(expected + 4.0 * sqrt(expected) + 4.0)
        if place < sample.size // 2:
            return _TINY
        threshold: np.float32 = np.maximum(np.partition(sample, place)[place], _TINY)
        return threshold


SPARSIFIERS: dict[str, Callable[[float], Sparsifier]] = {
    "mean-threshold": lambda density: MeanThreshold(),
    "top-k": TopK,
}
"""Sparsifiers by the name that a codec's name uses; built with a density, which `top-k` alone reads."""
