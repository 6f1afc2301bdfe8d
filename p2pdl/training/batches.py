"""Which samples a node trains on at which step: a pure function of seed, node and step."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from p2pdl.errors import DataUnavailable
from p2pdl.training.data.dataset import scaled

AUGMENTS = ("none", "flip")

_WIDTH_AXIS = 2


class _Pass(NamedTuple):
    order: np.ndarray  # (n,) positions in the node's partition
    flipped: np.ndarray | None  # (n,) bool


class Batches:
    """An endless row of full batches over a node's part of the data, in a new order in every pass.

    Pass `p` is shuffled by a generator seeded with (seed, node_index, p), and batch `step` holds the samples
    `step * batch_size` and following of the passes laid end to end, so that it may span two passes, or many
    where the partition is smaller than a batch. A run that goes on at a step gets the batches that it would have got.

    Args:
        x: All training samples, (samples, *input_shape), uint8 or float32.
        y: Their labels, int32, (samples,).
        indices: This node's samples, int, (n,).
        batch_size: Samples in a batch.
        seed: The run's seed, not negative.
        node_index: The node's place in the cluster, not negative.
        augment: `"flip"` mirrors every image left to right with probability 1/2, drawn anew in each pass.

    Raises:
        DataUnavailable: There are no samples, or no images to flip.
        ValueError: `augment` or `batch_size` cannot be used.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        indices: np.ndarray,
        batch_size: int,
        seed: int,
        node_index: int,
        augment: str = "none",
    ) -> None:
        if augment not in AUGMENTS:
            raise ValueError(f"augment must be one of {', '.join(AUGMENTS)}, not {augment!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if len(indices) == 0:
            raise DataUnavailable(
                f"node {node_index}'s part of the data is empty",
                "use fewer nodes, more data, or data.partition: iid",
            )
        if augment == "flip" and x.ndim < 4:
            raise DataUnavailable(
                f"data.augment: flip needs images (height, width, channels), but samples have shape {x.shape[1:]}",
                "set data.augment: none",
            )
        self.step = 0
        self.batch_size = batch_size
        self._x, self._y, self._indices = x, y, np.asarray(indices)
        self._seed, self._node_index, self._augment = seed, node_index, augment
        self._passes: dict[int, _Pass] = {}

    def __len__(self) -> int:
        """Samples in the node's partition."""
        return len(self._indices)

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        """The batch of `step`, which is then counted on.

        Returns:
            x: float32, (batch_size, *input_shape).
            y: int32, (batch_size,).
        """
        batch = self.batch(self.step)
        self.step += 1
        return batch

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of any step, without counting.

        Args:
            step: Counted from 0.

        Returns:
            As `next`.
        """
        parts, flips = [], []
        position, wanted = step * self.batch_size, self.batch_size
        while wanted:
            number, start = divmod(position, len(self))
            one_pass = self._pass(number)
            part = one_pass.order[start : start + wanted]
            parts.append(part)
            if one_pass.flipped is not None:
                flips.append(one_pass.flipped[start : start + wanted])
            position, wanted = position + len(part), wanted - len(part)
        rows = self._indices[parts[0] if len(parts) == 1 else np.concatenate(parts)]
        x = scaled(self._x[rows])
        if flips:
            flipped = np.concatenate(flips)
            x[flipped] = np.flip(x[flipped], axis=_WIDTH_AXIS)
        return x, self._y[rows]

    def steps_for(self, passes: float) -> int:
        """Steps that so many passes over the partition take, rounded up, at least one."""
        # The small number keeps products such as 0.1 * 30 from being rounded up by their last bit.
        return max(1, ceil(passes * len(self) / self.batch_size - 1e-9))

    @property
    def passes_done(self) -> float:
        """Passes over the partition behind `step`."""
        return self.step * self.batch_size / len(self)

    def _pass(self, number: int) -> _Pass:
        if number not in self._passes:
            rng = np.random.default_rng(np.random.SeedSequence([self._seed, self._node_index, number]))
            order = rng.permutation(len(self))
            flipped = rng.random(len(self)) < 0.5 if self._augment == "flip" else None
            # Two passes are enough for batches in turn; a tiny partition's passes are cheap to make again.
            if len(self._passes) >= 2:
                del self._passes[min(self._passes)]
            self._passes[number] = _Pass(order, flipped)
        return self._passes[number]
