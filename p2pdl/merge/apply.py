"""The merge of two models in plain numpy: x += w (y - x0), the reference for every compiled form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pdl.types import Float32Vector


def merge(
    own: Float32Vector,
    base: Float32Vector,
    peer: Float32Vector,
    weight: float,
    state_spans: Sequence[slice] = (),
) -> Float32Vector:
    """Merge a peer's model into one's own and keep the local progress made during the pull.

    What is trained becomes `own + weight * (peer - base)`. Statistics become
    `own + weight * (peer - own)`, which lies between the two: they are averaged and never extrapolated,
    so that the variances of BatchNorm cannot turn negative.

    Args:
        own: The model as it is now, shape (size,).
        base: The model as it was when the pull began, shape (size,); `own` itself without local progress.
        peer: The peer's model, shape (size,).
        weight: The peer's share, between 0 and 1.
        state_spans: Where the vectors hold statistics; see `WeightSpec.state_spans`.

    Returns:
        A new float32 vector, shape (size,).

    Raises:
        ValueError: The shapes differ or the weight is no share.
    """
    if not own.shape == base.shape == peer.shape:
        raise ValueError(f"models of shapes {own.shape}, {base.shape} and {peer.shape} cannot be merged")
    difference: Float32Vector = peer - base
    for span in state_spans:
        difference[span] = peer[span]
    return merge_difference(own, difference, weight, state_spans)


def merge_difference(
    own: Float32Vector, difference: Float32Vector, weight: float, state_spans: Sequence[slice] = ()
) -> Float32Vector:
    """Merge what a pull has left in an inbox; see `merge`.

    Args:
        own: The model as it is now, shape (size,).
        difference: `peer - base` for what is trained, `peer` itself for statistics, shape (size,).
        weight: The peer's share, between 0 and 1.
        state_spans: Where the vectors hold statistics.

    Returns:
        A new float32 vector, shape (size,).

    Raises:
        ValueError: The weight is no share.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"the peer's share must be between 0 and 1, not {weight}")
    share = np.float32(weight)
    merged: Float32Vector = own + share * difference
    for span in state_spans:
        merged[span] = own[span] + share * (difference[span] - own[span])
    return merged
