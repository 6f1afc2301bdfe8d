"""Evaluation against numpy, whatever the number of samples."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest

from p2pdl.training import evaluate as room
from p2pdl.training.evaluate import BATCH_SIZE, evaluate, evaluate_in_batches
from p2pdl.training.losses import resolve

MANY = 100_000


def classifier(units: int = 3, activation: str | None = None, seed: int = 5) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation=activation)])


def samples(count: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    return x, rng.integers(0, classes, count).astype(np.int32)


def in_numpy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    kernel, bias = model.get_weights()
    logits = x.astype(np.float64) @ kernel + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(chances[np.arange(len(y)), y]).mean(), (logits.argmax(axis=1) == y).mean()


@pytest.mark.parametrize("count", [1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1, 3 * BATCH_SIZE])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_means_are_those_of_all_samples(count, activation):
    model, (x, y) = classifier(activation=activation), samples(count)
    result = evaluate(model, x, y, resolve("auto", model), limit=MANY)
    loss, accuracy = in_numpy(model, x, y)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.accuracy == pytest.approx(accuracy)
    assert result.samples == count


def test_limit_takes_evenly_spaced_samples():
    model, (x, y) = classifier(), samples(1000)
    result = evaluate(model, x, y, resolve("auto", model), limit=300)
    rows = [number * 1000 // 300 for number in range(300)]
    loss, accuracy = in_numpy(model, x[rows], y[rows])
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.accuracy == pytest.approx(accuracy)
    assert result.samples == 300


def test_after_each_batch_there_are_the_means_so_far():
    model, (x, y) = classifier(), samples(2 * BATCH_SIZE + 7)
    found = list(evaluate_in_batches(model, x, y, resolve("auto", model), limit=MANY))
    assert [result.samples for result in found] == [BATCH_SIZE, 2 * BATCH_SIZE, 2 * BATCH_SIZE + 7]
    for result in found:
        loss, accuracy = in_numpy(model, x[: result.samples], y[: result.samples])
        assert (result.loss, result.accuracy) == (pytest.approx(loss, rel=1e-5), pytest.approx(accuracy))


def test_uint8_samples_are_scaled():
    model = classifier()
    x = np.random.default_rng(0).integers(0, 256, (50, 4), dtype=np.uint8)
    y = samples(50)[1]
    result = evaluate(model, x, y, resolve("auto", model), limit=MANY)
    assert result.loss == pytest.approx(in_numpy(model, x / 255, y)[0], rel=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_is_the_chance_of_class_1(activation):
    model, (x, y) = classifier(units=1, activation=activation), samples(200, classes=2)
    result = evaluate(model, x, y, resolve("binary_crossentropy", model), limit=MANY)
    kernel, bias = model.get_weights()
    chance = 1 / (1 + np.exp(-(x @ kernel + bias)[:, 0]))
    assert result.accuracy == pytest.approx(((chance > 0.5) == y).mean())
    assert result.loss == pytest.approx(-np.log(np.where(y == 1, chance, 1 - chance)).mean(), rel=1e-4)


def test_inference_mode_leaves_the_statistics_alone():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
    before = model.get_weights()
    x, y = samples(100)
    loss = resolve("auto", model)
    assert evaluate(model, x, y, loss, MANY) == evaluate(model, x, y, loss, MANY)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_model_is_compiled_once_and_sees_its_new_weights():
    model = classifier()
    loss = resolve("auto", model)
    for count in (10, 500, 129):
        x, y = samples(count)
        model.set_weights([weight + 1 for weight in model.get_weights()])
        result = evaluate(model, x, y, loss, limit=MANY)
        assert result.loss == pytest.approx(in_numpy(model, x, y)[0], rel=1e-4)
    assert room._compiled[model][1].experimental_get_tracing_count() == 1


def test_evaluated_model_is_forgotten_with_its_last_reference():
    model = classifier()
    x, y = samples(10)
    evaluate(model, x, y, resolve("auto", model), limit=MANY)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_diverged_model_has_a_loss_that_says_so():
    model, (x, y) = classifier(), samples(10)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    assert np.isnan(evaluate(model, x, y, resolve("auto", model), limit=MANY).loss)
