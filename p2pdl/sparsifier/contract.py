"""What a gradient sparsifier decides: which entries of a gradient a worker sends, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np

from p2pdl.types import Float32Vector, Indices


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries to send.

    Both arrays may be views of the gradient or of memory that the sparsifier uses again: they hold until the gradient
    changes or `select` is called once more, and must not be written.

    Attributes:
        indices: Their places in the flat vector, ascending, shape (count,); None if `values` is the whole vector.
        values: What to send, shape (count,), finite; shape (size,) where `indices` is None, and then zero wherever the
            vector holds padding or what is not trained.
    """

    indices: Indices | None
    values: Float32Vector


class Balance(Enum):
    """What holds between a gradient, what is sent of it, and the residual before and after."""

    KEPT = "kept"
    """Everywhere, sent + residual after = gradient + residual before. Without a residual, both count as zero: all is
    sent. It holds to the bit, unless the sum on the right is beyond float32: then it is held at the greatest number."""

    DROPPED = "dropped"
    """What is sent is the gradient's own value; there is no residual, and the rest is gone."""

    DECAYED = "decayed"
    """With f = decay * residual before + (1 - decay) * gradient: an entry not sent leaves f in the residual. An entry
    sent is either the gradient's own value, and leaves the residual as it was, or f, and leaves zero. So what waits is
    a fading average and no sum: most of what is not sent never arrives."""


class GradientSparsifier(Protocol):
    """A rule that selects, with what it remembers of earlier gradients. One worker, one thread.

    It is built from `(spec, settings, seed)`: the layout of the vector, the settings of its own kind, and the seed of
    all its chance. The same gradients and losses after the same seed give the same bits.
    """

    @property
    def name(self) -> str:
        """Its key in the registry."""
        ...

    @property
    def balance(self) -> Balance:
        """What holds between gradient, selection and residual."""
        ...

    @property
    def residual(self) -> Float32Vector | None:
        """What has not been sent so far, shape (size,), read only; None if nothing is kept."""
        ...

    def select(self, gradient: Float32Vector, loss: float) -> Selection:
        """The entries of the next gradient to send; padding and what is not trained are never among them.

        Args:
            gradient: Shape (size,), laid out as the spec says; it is only read.
            loss: The loss that the gradient belongs to; NaN where it is not known.

        Raises:
            DivergedError: The gradient is not finite where it is trained. Nothing of it is kept.
            ValueError: The gradient is no float32 vector of that size.
        """
        ...

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that a checkpoint has to hold, by name: its own memory, which the next `select` overwrites."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Go on from what `state` gave.

        Raises:
            CheckpointMismatch: It is the state of another sparsifier or of another model; nothing has changed.
        """
        ...
