"""Which entries of a difference are worth sending: the sparsifiers and their registry.

Mean threshold: Cui, "Decentralized Deep Learning with Gradient Compression", 2019, Algorithm 1, lines 15-16, applied to
differences of weights. Top k: Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np

from p2pdl.codec.greatest import TINY, greatest, lower_bound
from p2pdl.codec.indices import Indices
from p2pdl.types import Float32Vector

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
            threshold = max(np.float32(min(layer.mean * (1.0 - _ROUNDING), _GREATEST)), TINY)
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
        """See `Sparsifier.select`. Of equal entries the first are kept."""
        count = ceil(self._density * entries)
        sample = magnitudes[:: self._STRIDE]
        candidates = np.flatnonzero(magnitudes >= lower_bound(sample, count / self._STRIDE))
        if candidates.size < count:
            candidates = np.flatnonzero(magnitudes)
        return candidates.take(greatest(magnitudes.take(candidates), count))


SPARSIFIERS: dict[str, Callable[[float], Sparsifier]] = {
    "mean-threshold": lambda density: MeanThreshold(),
    "top-k": TopK,
}
"""Sparsifiers by the name that a codec's name uses; built with a density, which `top-k` alone reads."""
