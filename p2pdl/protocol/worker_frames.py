"""The frames that workers send along: what they must be before anything is made of them."""

from __future__ import annotations

import numpy as np
import xxhash

from p2pdl.errors import RejectedWeights
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector

GREATEST_SIZE = 1 << 34
"""Elements of a model, at most: what a worker asks a server to hold is a stranger's claim."""


def parsed_layout(payload: memoryview | None, digest: str) -> WeightSpec:
    """The layout that a worker has sent.

    Raises:
        RejectedWeights: It is none, or not the one that its digest says.
    """
    try:
        spec = WeightSpec.parse(bytes(payload or b"").decode())
        # Offsets are the sender's claim too.
        again = WeightSpec.layout([(it.name, it.shape, it.dtype, it.trainable) for it in spec.variables])
    except (ValueError, UnicodeDecodeError, OverflowError):
        raise RejectedWeights("the layout of the model cannot be read", code="payload") from None
    negative = any(size < 0 for variable in spec.variables for size in variable.shape)
    if spec != again or spec.digest != digest or negative or not 0 < spec.size <= GREATEST_SIZE:
        raise RejectedWeights("the layout of the model is not what its digest says", code="payload")
    return spec


def checked_frame(payload: memoryview | None, digest: int) -> memoryview:
    """The frame, if it is what was sent.

    Raises:
        RejectedWeights: It is missing or damaged.
    """
    if payload is None or xxhash.xxh3_64_intdigest(payload) != digest:
        raise RejectedWeights("the frame was damaged on its way", code="payload")
    return payload


def initial_values(frame: memoryview, nbytes: int) -> Float32Vector:
    """The weights of a shard to begin with.

    Args:
        frame: What came.
        nbytes: Bytes that the shard has.

    Raises:
        RejectedWeights: They are not so many, or not finite.
    """
    if frame.nbytes != nbytes:
        raise RejectedWeights(f"the weights to begin with are {frame.nbytes} bytes, not {nbytes}", code="payload")
    values: Float32Vector = np.frombuffer(frame, "<f4")
    if not np.isfinite(values).all():
        raise RejectedWeights("the weights to begin with are not finite", code="payload")
    return values
