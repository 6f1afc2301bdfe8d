"""Losses of other weights against the same model with those weights in it, which it never has otherwise."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from p2pdl.puller.inbox import aligned_empty
from p2pdl.training import losses
from p2pdl.training.judgement import Judgement
from p2pdl.training.step import compile_step
from p2pdl.training.weights import ModelWeights, spec_of
from tests.training.test_weights import small_model, vector_of

BATCH = 8


def batch(step):
    """A batch that depends on the step."""
    random = np.random.default_rng(step)
    return random.random((BATCH, 6, 6, 2), dtype=np.float32), random.integers(3, size=BATCH).astype(np.int32)


class Subject:
    """A model with BatchNorm and dropout, and one who judges weights by it."""

    def __init__(self, model=None, batch=batch):
        self.model = model or small_model()
        self.loss = losses.resolve("auto", self.model)
        self.judge = Judgement(self.model, self.loss, batch)
        self.weights = ModelWeights(self.model, aligned_empty(spec_of(self.model).size))

    def loss_now(self, step):
        """The oracle: the model's loss in inference mode, without any of the code under test."""
        inputs, labels = batch(step)
        return float(self.loss(labels, self.model(inputs, training=False)))

    def everything(self):
        return b"".join(np.asarray(variable.numpy()).tobytes() for variable in self.model.variables)


def other_vector(seed):
    other = small_model(seed)
    vector = vector_of(ModelWeights(other, aligned_empty(spec_of(other).size)))
    for span in spec_of(other).state_spans:
        vector[span] += 0.25
    return vector


def test_loss_of_other_weights_is_the_models_with_them_in_it():
    subject = Subject()
    own = vector_of(subject.weights)
    for number in range(3):
        vector, step = other_vector(seed=5 + number), number % 2
        measured = subject.judge.loss_of(lambda out, vector=vector: np.copyto(out, vector), step)
        subject.weights.assign(vector)
        expected = subject.loss_now(step)
        subject.weights.assign(own)
        assert measured == pytest.approx(expected, rel=1e-6)
        assert subject.judge.own_loss(step) == pytest.approx(subject.loss_now(step), rel=1e-6)
        assert abs(measured - subject.loss_now(step)) > 1e-3


def test_own_loss_follows_the_training():
    subject = Subject()
    step = compile_step(subject.model, keras.optimizers.SGD(0.1), subject.loss)
    seen = []
    for number in range(4):
        seen.append(subject.judge.own_loss(0))
        assert seen[-1] == pytest.approx(subject.loss_now(0), rel=1e-5)
        step(*map(tf.constant, batch(number)))
    assert len(set(seen)) == 4


def test_model_is_bit_for_bit_as_it_was():
    subject = Subject()
    before = subject.everything()
    subject.judge.own_loss(0)
    subject.judge.loss_of(lambda out: out.fill(1e30), 0)
    subject.judge.loss_of(lambda out: out.fill(np.nan), 1)
    with pytest.raises(ZeroDivisionError):
        subject.judge.loss_of(lambda out: 1 // 0, 1)
    assert subject.everything() == before


def test_weights_that_are_not_finite_have_no_finite_loss():
    subject = Subject()
    assert math.isnan(subject.judge.loss_of(lambda out: out.fill(np.nan), 0))
    assert subject.judge.loss_of(lambda out: np.copyto(out, other_vector(1)), 0) < 10.0


def test_batch_of_a_step_is_made_once():
    made = []

    def counted(step):
        made.append(step)
        return batch(step)

    subject = Subject(batch=counted)
    for step in (3, 3, 4, 4, 4):
        subject.judge.own_loss(step)
        subject.judge.loss_of(lambda out: out.fill(0.5), step)
    assert made == [3, 4]


def test_both_kinds_of_measurement_are_one_compiled_function():
    subject = Subject()
    for step in range(3):
        subject.judge.own_loss(step)
        subject.judge.loss_of(lambda out: out.fill(0.5), step)
    assert subject.judge._forward.experimental_get_tracing_count() == 1


def test_half_precision_variables_get_the_vectors_values_rounded():
    keras.config.set_dtype_policy("float16")
    try:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    finally:
        keras.config.set_dtype_policy("float32")

    def ones(step):
        return np.ones((2, 4), np.float16), np.zeros(2, np.int32)

    judge = Judgement(model, losses.resolve("auto", model), ones)
    assert judge.loss_of(lambda out: out.fill(0.1), 0) == pytest.approx(math.log(3), rel=1e-3)
