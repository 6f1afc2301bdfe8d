"""The mean of an iteration's updates against plain numpy, iteration after iteration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.aggregation import Collection, Update
from tests.aggregation.updates import SIZE, dense, updates, whole


@settings(max_examples=40, deadline=None)
@given(iterations=st.lists(st.lists(updates(), min_size=1, max_size=5), max_size=5))
def test_take_any_iterations_equals_mean_of_those_that_came(iterations: list[list[Update]]) -> None:
    collection = Collection(SIZE)
    for clock, came in enumerate(iterations):
        assert (collection.clock, collection.count, collection.samples) == (None, 0, 0)
        for update in came:
            collection.add(replace(update, clock=clock), update.values)
        assert (collection.clock, collection.count, collection.samples) == (clock, len(came), 64 * len(came))
        expected = np.mean([whole(update).astype(np.float64) for update in came], axis=0)
        np.testing.assert_allclose(collection.take(), expected, rtol=1e-6, atol=1e-4)


def test_add_takes_the_values_that_a_rule_has_made() -> None:
    collection, update = Collection(3), dense([1.0, 2.0, 3.0])
    collection.add(update, update.values * np.float32(2.0))
    np.testing.assert_array_equal(collection.take(), [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(update.values, [1.0, 2.0, 3.0])


def test_add_of_another_iteration_and_take_of_nothing_are_errors() -> None:
    collection = Collection(3)
    with pytest.raises(ValueError, match="no update"):
        collection.take()
    collection.add(dense([1.0, 2.0, 3.0], clock=4), np.ones(3, np.float32))
    with pytest.raises(ValueError, match="iteration 5 came while 4"):
        collection.add(dense([1.0, 2.0, 3.0], clock=5), np.ones(3, np.float32))
    assert collection.count == 1
