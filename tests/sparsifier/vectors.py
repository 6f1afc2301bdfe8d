"""Layouts and gradients that the tests of this room share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.types import Float32Vector

SMALL = WeightSpec.layout(
    [
        ("dense/kernel", (7, 5), "float32", True),
        ("norm/mean", (9,), "float32", False),
        ("dense/bias", (16,), "float32", True),
        ("empty", (0, 3), "float32", True),
        ("scale", (), "float32", True),
        ("head/kernel", (4, 8), "float32", True),
    ]
)
"""Padding, statistics, two variables without a gap between them, an empty one and a scalar."""

LARGE = WeightSpec.layout(
    [
        ("first/kernel", (600, 500), "float32", True),
        ("first/bias", (500,), "float32", True),
        ("norm/variance", (500,), "float32", False),
        ("second/kernel", (500, 10), "float32", True),
    ]
)
"""More than a shard, and large enough for samples."""

NOTHING = WeightSpec.layout([("norm/mean", (9,), "float32", False)])
"""Nothing is trained."""

assert LARGE.size > SHARD_ELEMENTS


def trained(spec: WeightSpec) -> np.ndarray:
    """Which elements are trained, shape (size,)."""
    mask = np.zeros(spec.size, np.bool_)
    for variable in spec.variables:
        if variable.trainable:
            mask[variable.span] = True
    return mask


def normal(spec: WeightSpec, seed: int) -> Float32Vector:
    """A gradient that is not zero anywhere, not even where nothing is trained."""
    return np.random.default_rng(seed).standard_normal(spec.size).astype(np.float32)


@st.composite
def gradients(draw: st.DrawFn, spec: WeightSpec = SMALL) -> Float32Vector:
    """Gradients of many kinds: of one magnitude, with zeros, over many orders, up to the end of float32."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gradient = rng.standard_normal(spec.size)
    match draw(st.sampled_from(["normal", "equal", "zeros", "wide", "greatest", "zero"])):
        case "equal":
            gradient = np.sign(gradient)
        case "zeros":
            gradient *= rng.random(spec.size) < 0.2
        case "wide":
            gradient = np.sign(gradient) * np.exp(20.0 * gradient)
        case "greatest":
            gradient = np.sign(gradient) * float(np.finfo(np.float32).max)
        case "zero":
            gradient *= 0.0
    return np.clip(gradient, -3.4e38, 3.4e38).astype(np.float32)
