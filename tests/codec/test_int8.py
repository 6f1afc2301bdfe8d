"""The chance in int8: exact means and known variances, whatever the magnitude, and what no encoder makes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pdl.codec import create
from p2pdl.errors import RejectedWeights
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector

SEEDS = 3000
LARGEST = float(np.finfo(np.float32).max)


def round_trip(values: Float32Vector, seed: int) -> Float32Vector:
    codec = create("int8")
    return codec.decode(codec.encode(values, seed), np.empty(values.size, np.float32))


def steps(values: Float32Vector) -> NDArray[np.float64]:
    """The scale of each value's block by the formula."""
    padded = np.zeros(-(-values.size // 256) * 256)
    padded[: values.size] = np.abs(values)
    scales = np.maximum(padded.reshape(-1, 256).max(axis=1) / 127, 2.0**-126)
    return np.repeat(scales, 256)[: values.size]


def variances(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """In squared steps: f (1 - f) at the fraction f between two levels."""
    fractions = levels % 1.0
    return fractions * (1.0 - fractions)


@pytest.mark.parametrize("magnitude", [2.0**-128, 2.0**-120, 0.05, 1e37])
def test_round_trip_over_seeds_has_the_mean_and_variance_of_two_levels(magnitude: float) -> None:
    values = (magnitude * np.random.default_rng(1).standard_normal(300)).astype(np.float32)
    levels = values / steps(values)
    results = np.stack([round_trip(values, seed) / steps(values) for seed in range(SEEDS)])
    # Five standard deviations, and 2^-15 of a step for the resolution of the dither and of float32.
    tolerances = 5 * np.sqrt(variances(levels) / SEEDS) + 2.0**-15
    assert (np.abs(results.mean(axis=0) - levels) <= tolerances).all()
    np.testing.assert_allclose(results.var(axis=0).sum(), variances(levels).sum(), rtol=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_round_trip_errors_of_a_shard_do_not_add_up(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(SHARD_ELEMENTS).astype(np.float32)
    levels = values / steps(values)
    errors = round_trip(values, seed) / steps(values) - levels
    deviation = np.sqrt(variances(levels).sum())
    assert abs(errors.sum()) <= 5 * deviation
    # Neighbours are rounded independently of each other.
    assert abs((errors[1:] * errors[:-1]).sum()) <= 5 * np.sqrt((variances(levels)[1:] * variances(levels)[:-1]).sum())


def test_round_trip_whole_levels_are_exact() -> None:
    values = np.arange(-127, 128, dtype=np.float32)
    for seed in range(200):
        np.testing.assert_array_equal(round_trip(values, seed), values)


@pytest.mark.parametrize(
    "lowest, highest", [(2.0**-126, 2.0**-125), (1.0, 2.0), (1.7e38, LARGEST), (3.402823e38, LARGEST)]
)
def test_round_trip_greatest_magnitudes_never_leave_the_levels(lowest: float, highest: float) -> None:
    rng = np.random.default_rng(0)
    greatest = rng.uniform(lowest, highest, SHARD_ELEMENTS // 256).astype(np.float32)
    greatest[-1] = highest
    values = np.repeat(greatest, 256) * rng.choice(np.array([-1, 1], np.float32), SHARD_ELEMENTS)
    for seed in range(10):
        errors = np.abs(round_trip(values, seed).astype(np.float64) - values)
        assert (errors <= create("int8").error_bound(values)).all()


def test_quotient_of_every_mantissa_leaves_room_for_the_dither() -> None:
    # What keeps the level of a block's greatest magnitude at 127: the dither is 1 - 2^-16 at most.
    mantissas = (np.arange(2**23, dtype=np.uint32) | 0x3F800000).view(np.float32)
    quotients = mantissas / (mantissas / np.float32(127.0))
    assert abs(quotients - np.float32(127.0)).max() <= 2.0**-17


@pytest.mark.parametrize("scale, level", [(-1.0, 1), (-(2.0**-149), 0), (1.0, -128), (0.0, -128)])
def test_decode_what_no_encoder_makes_is_refused(scale: float, level: int) -> None:
    with pytest.raises(RejectedWeights, match="malformed") as refusal:
        create("int8").decode(struct.pack("<f2b", scale, 1, level), np.empty(2, np.float32))
    assert refusal.value.code == "payload"


def test_decode_scale_of_zero_gives_zeros() -> None:
    values = create("int8").decode(struct.pack("<f2b", 0.0, 127, -127), np.ones(2, np.float32))
    np.testing.assert_array_equal(values, np.zeros(2))
