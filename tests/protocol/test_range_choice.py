"""How long a worker's ranges become: what fits into the computation, however the times change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.range_choice import GROWTH, RangeChoice


def taken(choice: RangeChoice, computing: float, start: float, each: float, rounds: int = 60) -> list[int]:
    """The sizes that are chosen where n shards take start + n * each seconds."""
    sizes = []
    for _ in range(rounds):
        sizes.append(choice.size)
        choice.on_computed(computing)
        choice.on_exchanged(choice.size, start + choice.size * each)
    return sizes


@given(
    shards=st.integers(1, 200),
    computing=st.floats(0.001, 10.0),
    start=st.floats(0.0, 1.0),
    each=st.floats(1e-4, 1.0),
)
def test_range_becomes_the_longest_that_the_computation_hides(
    shards: int, computing: float, start: float, each: float
) -> None:
    fitting = (computing - start) / each
    longest = max(1, min(shards, int(fitting)))
    sizes = taken(RangeChoice(shards), computing, start, each, 200)
    if abs(fitting - round(fitting)) > 1e-3:
        # Beside a border both are as good. Now and then one more is tried, to see whether it would fit by now.
        assert set(sizes[-100:]) <= {longest, longest + 1} and sizes[-100:].count(longest) >= 80
    assert sizes[0] == 1 and all(after <= GROWTH * before for before, after in zip(sizes, sizes[1:], strict=False))


def test_range_follows_a_link_that_becomes_slower_and_faster_again() -> None:
    choice = RangeChoice(80)
    assert taken(choice, 0.1, 0.002, 0.002)[-1] in (48, 49, 50)
    assert taken(choice, 0.1, 0.002, 0.02)[-1] in (4, 5)
    assert taken(choice, 0.1, 0.002, 0.002)[-1] in (48, 49, 50)


def test_range_with_noise_stays_near_the_longest() -> None:
    random, choice, sizes = np.random.default_rng(0), RangeChoice(80), []
    for _ in range(400):
        choice.on_computed(0.1 * random.lognormal(0.0, 0.1))
        choice.on_exchanged(choice.size, (0.01 + 0.003 * choice.size) * random.lognormal(0.0, 0.2))
        sizes.append(choice.size)
    assert 20 <= np.percentile(sizes[50:], 5) and np.percentile(sizes[50:], 95) <= 45


@pytest.mark.parametrize("fixed, size", [(1, 1), (7, 7), (100, 12)])
def test_range_that_is_given_stays(fixed: int, size: int) -> None:
    assert set(taken(RangeChoice(12, fixed), 0.1, 0.0, 1.0)) == {size}


@pytest.mark.parametrize("shards, fixed", [(0, None), (3, 0)])
def test_range_of_nothing_is_refused(shards: int, fixed: int | None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RangeChoice(shards, fixed)
