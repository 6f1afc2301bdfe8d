"""The server's optimizers against Keras's formulas, step by step in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.aggregation import OPTIMIZERS, OptimizerSettings, ServerOptimizer, Update, make_optimizer
from p2pdl.aggregation.optimizer import PIECE
from p2pdl.errors import CheckpointMismatch
from tests.aggregation.updates import SIZE, updates, whole

EVERY_OPTIMIZER = pytest.mark.parametrize("name", OPTIMIZERS)
HISTORIES = st.lists(updates(), max_size=15)
RATE, FACTOR = np.float32(0.1), np.float32(0.9)


def make(name: str, nesterov: bool = False) -> ServerOptimizer:
    return make_optimizer(name, SIZE, OptimizerSettings(0.1, 0.9, nesterov))


def begun() -> np.ndarray:
    return np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)


def apply(optimizer: ServerOptimizer, weights: np.ndarray, update: Update) -> None:
    optimizer.apply(weights, update.values, start=update.start, indices=update.indices)


@settings(max_examples=40, deadline=None)
@given(history=HISTORIES)
def test_sgd_and_none_equal_their_formulas(history: list[Update]) -> None:
    for name, rate in (("sgd", RATE), ("none", np.float32(1.0))):
        weights, expected, optimizer = begun(), begun(), make(name)
        for update in history:
            apply(optimizer, weights, update)
            expected -= whole(update) * rate
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("nesterov", [False, True])
@settings(max_examples=40, deadline=None)
@given(history=HISTORIES)
def test_momentum_equals_keras_with_zeros_where_a_sparse_update_has_nothing(
    nesterov: bool, history: list[Update]
) -> None:
    weights, expected, optimizer = begun(), begun(), make("momentum", nesterov)
    velocity = np.zeros(SIZE, np.float32)
    for update in history:
        apply(optimizer, weights, update)
        entries = update.place if update.indices is None else slice(None)
        gradient = whole(update)[entries]
        velocity[entries] = velocity[entries] * FACTOR - gradient * RATE
        expected[entries] += velocity[entries] * FACTOR - gradient * RATE if nesterov else velocity[entries]
    np.testing.assert_array_equal(weights, expected)


@EVERY_OPTIMIZER
@settings(max_examples=40, deadline=None)
@given(update=updates(), rate=st.sampled_from([0.25, 0.3, 1.0, 2.0]))
def test_rate_is_as_good_as_values_so_many_times_as_large(name: str, update: Update, rate: float) -> None:
    weights, expected = begun(), begun()
    make(name).apply(weights, update.values, rate=rate, start=update.start, indices=update.indices)
    larger = update.values * np.float32(rate)
    make(name).apply(expected, larger, start=update.start, indices=update.indices)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("start", [0, 5])
def test_long_update_is_applied_piece_by_piece_to_the_last_entry(start: int) -> None:
    size = 2 * PIECE + 7
    weights = np.random.default_rng(0).normal(size=size + 10).astype(np.float32)
    values = np.random.default_rng(1).normal(size=size).astype(np.float32)
    expected = weights.copy()
    expected[start : start + size] -= values * RATE
    make("sgd").apply(weights, values, start=start)
    np.testing.assert_array_equal(weights, expected)


def test_learning_rate_may_change_between_updates() -> None:
    for name in ("sgd", "momentum"):
        weights, optimizer = np.zeros(SIZE, np.float32), make(name)
        optimizer.learning_rate = 0.5
        optimizer.apply(weights, np.ones(SIZE, np.float32))
        np.testing.assert_array_equal(weights, -0.5)


@EVERY_OPTIMIZER
@settings(max_examples=40, deadline=None)
@given(before=HISTORIES, after=HISTORIES)
def test_restored_optimizer_goes_on_with_the_same_bits(name: str, before: list[Update], after: list[Update]) -> None:
    first, optimizer, other = begun(), make(name), make(name)
    for update in before:
        apply(optimizer, first, update)
    other.restore({key: array.copy() for key, array in optimizer.state().items()})
    second = first.copy()
    for update in after:
        apply(optimizer, first, update)
        apply(other, second, update)
    assert first.tobytes() == second.tobytes()


@EVERY_OPTIMIZER
def test_state_of_another_optimizer_is_refused(name: str) -> None:
    optimizer = make(name)
    for state in ({"velocity": np.zeros(SIZE + 1, np.float32)}, {"other": np.zeros(SIZE, np.float32)}):
        with pytest.raises(CheckpointMismatch) as caught:
            optimizer.restore(state)
        assert caught.value.remedy


def test_names_are_those_of_the_registry() -> None:
    assert [make(name).name for name in OPTIMIZERS] == list(OPTIMIZERS)


def test_make_unknown_name_or_wrong_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="'adam'.*sgd, momentum, none"):
        make("adam")
    for name in ("sgd", "momentum"):
        with pytest.raises(ValueError, match="above 0, not 0"):
            make_optimizer(name, SIZE, OptimizerSettings(learning_rate=0))
    with pytest.raises(ValueError, match="below 1, not 1"):
        make_optimizer("momentum", SIZE, OptimizerSettings(momentum=1))
