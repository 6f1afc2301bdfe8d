"""Schedules of the learning rate: shares against Keras' own, and that a worker's scaled gradient is the same thing."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.aggregation.optimizer import Momentum
from p2pdl.training.gradient import GradientStep
from p2pdl.training.preparation import Preparation, PreparationSettings
from p2pdl.training.schedule import SCHEDULES, Schedule

STEPS = 20


def settings(**changes: object) -> PreparationSettings:
    what: dict[str, object] = {
        "folder": Path(),
        "source": "digits",
        "partition": "iid",
        "alpha": 0.3,
        "augment": "none",
        "nodes": 1,
        "node_index": 0,
        "model": "mlp",
        "width": 0.1,
        "arguments": {},
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "cosine",
        "warm_up": 0.2,
        "optimizer_arguments": {"momentum": 0.9},
        "loss": "auto",
        "mask": "none",
        "error_feedback": False,
        "batch_size": 16,
        "passes": 1.0,
        "steps": STEPS,
        "seed": 3,
        "evaluation_samples": 100,
    }
    return PreparationSettings(**{**what, **changes})  # type: ignore[arg-type]


def test_cosine_is_that_of_keras() -> None:
    ours, theirs = Schedule("cosine", 0.0, 50), keras.optimizers.schedules.CosineDecay(0.5, decay_steps=50)
    for step in range(50):
        assert 0.5 * ours.share(step) == pytest.approx(float(theirs(step)), abs=1e-7)


def test_line_falls_by_the_same_in_each_step_and_the_warm_up_rises_so() -> None:
    schedule = Schedule("linear", 0.2, 20)
    shares = [schedule.share(step) for step in range(20)]
    np.testing.assert_allclose(shares[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(np.diff(shares[4:]), -1 / 16)


@given(name=st.sampled_from(sorted(SCHEDULES)), warm_up=st.floats(0.0, 0.99), steps=st.integers(1, 300))
def test_every_step_has_some_rate_and_none_more_than_the_whole(name: str, warm_up: float, steps: int) -> None:
    schedule = Schedule(name, warm_up, steps)
    shares = [schedule.share(step) for step in range(steps)]
    assert all(0.0 < share <= 1.0 for share in shares)
    top = shares.index(max(shares))
    assert shares[:top] == sorted(shares[:top]) and shares[top:] == sorted(shares[top:], reverse=True)
    assert not schedule.is_constant or shares == [1.0] * steps


def test_run_that_was_made_shorter_than_it_has_come_goes_on() -> None:
    assert Schedule("cosine", 0.1, 10).share(12) == 0.0 and Schedule("constant", 0.0, 10).share(12) == 1.0


@pytest.mark.parametrize("mask", ["none", "magnitude"])
def test_optimizer_has_the_rate_of_the_step(mask: str) -> None:
    parts = Preparation(settings(mask=mask))
    for step in (0, 4, 10, STEPS - 1):
        parts.set_pace(step)
        assert float(parts.optimizer.learning_rate) == pytest.approx(0.1 * parts.schedule.share(step))


def test_scaled_gradients_at_a_server_with_momentum_are_a_scheduled_rate() -> None:
    alone, worker = Preparation(settings()), Preparation(settings())
    gradient = GradientStep(worker.model, worker.loss)
    weights = [variable.numpy().reshape(-1) for variable in worker.model.trainable_variables]
    server = Momentum(sum(each.size for each in weights), 0.1, 0.9)
    vector = np.concatenate(weights)
    for step in range(STEPS):
        inputs, labels = map(tf.constant, alone.batches.batch(step))
        alone.set_pace(step)
        alone.step(inputs, labels)
        gradient.share = worker.schedule.share(step)
        gradient(inputs, labels)
        flat = np.concatenate([gradient.vector[span] for span in gradient._spans])
        server.apply(vector, flat)
        place = 0
        for variable in worker.model.trainable_variables:
            size = int(np.prod(variable.shape))
            variable.assign(vector[place : place + size].reshape(variable.shape))
            place += size
    for one, other in zip(alone.model.trainable_variables, worker.model.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-6)
