"""The mask against numpy, through every way in which Keras calls an optimizer."""

from __future__ import annotations

import warnings

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

from p2pdl.errors import StartupError
from p2pdl.training.mean_threshold import RULES, MeanThreshold

SHAPES = ((7, 5), (3,), (3, 3, 2, 4), (1,), ())


def kept(gradient: np.ndarray, rule: str) -> np.ndarray:
    scores = np.abs(gradient) if rule == "magnitude" else gradient
    return scores >= scores.mean(dtype=np.float64)


def masked(gradient: np.ndarray, rule: str) -> np.ndarray:
    return np.where(kept(gradient, rule), gradient, 0)


def zeros(*shapes: tuple[int, ...]) -> list[keras.Variable]:
    return [keras.Variable(np.zeros(shape, np.float32)) for shape in shapes]


def draw(seed: int, shapes=SHAPES) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(0.1, 1, shape), np.float32) for shape in shapes]


def tensors(gradients: list[np.ndarray]) -> list[tf.Tensor]:
    return [tf.constant(gradient) for gradient in gradients]


def applied(optimizer: MeanThreshold, gradients, variables) -> list[np.ndarray]:
    """What an inner SGD with learning rate 1 subtracts in one step."""
    before = [variable.numpy() for variable in variables]
    optimizer.apply(gradients, variables)
    return [old - variable.numpy() for old, variable in zip(before, variables, strict=True)]


# The mask


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_mask_of_several_variables_is_numpys(rule, compiled):
    gradients, variables = draw(1), zeros(*SHAPES)
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0), rule=rule)
    optimizer.build(variables)

    def step(tensors):
        optimizer.apply(tensors, variables)

    (tf.function(step, jit_compile=True) if compiled else step)(tensors(gradients))
    for variable, gradient in zip(variables, gradients, strict=True):
        np.testing.assert_array_equal(-variable.numpy(), masked(gradient, rule))
    count = sum(kept(gradient, rule).sum() for gradient in gradients)
    assert float(optimizer.density) == pytest.approx(count / sum(g.size for g in gradients), rel=1e-6)


@settings(max_examples=60)
@given(
    # Multiples of 1/8, so that means which equal an entry do so in every arithmetic.
    gradient=npst.arrays(
        np.float32,
        npst.array_shapes(max_dims=3, max_side=4),
        elements=st.integers(-800, 800).map(lambda n: n / 8),
    ),
    rule=st.sampled_from(tuple(RULES)),
)
def test_rule_keeps_what_numpy_keeps(gradient, rule):
    np.testing.assert_array_equal(RULES[rule](tf.constant(gradient)).numpy() > 0, kept(gradient, rule))


@pytest.mark.parametrize("size", [7, 513, 4097, 262144])
@pytest.mark.parametrize("value", [0.3, -0.7])
@pytest.mark.parametrize("rule", RULES)
def test_mask_of_equal_entries_keeps_all(rule, value, size):
    assert RULES[rule](tf.fill([size], tf.constant(value))).numpy().all()


@pytest.mark.parametrize("rule", RULES)
def test_mask_of_zero_gradient_keeps_all(rule):
    (variable,) = zeros((4, 3))
    optimizer = MeanThreshold("sgd", rule=rule, error_feedback=True)
    optimizer.apply([tf.zeros((4, 3))], [variable])
    assert float(optimizer.density) == 1
    np.testing.assert_array_equal(variable.numpy(), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_mask_leaves_nonfinite_entries_visible(bad):
    (variable,) = zeros((4,))
    MeanThreshold(keras.optimizers.SGD(1.0)).apply([tf.constant([1, bad, 2, 3], tf.float32)], [variable])
    assert not np.isfinite(variable.numpy()[1])


def test_mask_of_16_bit_gradients_is_computed_in_32_bits():
    gradient = (1000 * np.random.default_rng(0).normal(size=100_000)).astype(np.float16)
    variable = keras.Variable(np.zeros(gradient.shape, np.float16), dtype="float16")
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0))
    optimizer.apply([tf.constant(gradient)], [variable])
    expected = masked(gradient.astype(np.float32), "magnitude")
    np.testing.assert_array_equal(-variable.numpy().astype(np.float32), expected)
    # Of so many entries a sixteenth is counted: 6272 of them, whose share has a standard error of 0.006.
    assert float(optimizer.density) == pytest.approx((expected != 0).mean(), abs=0.03)


def test_mask_of_lookup_gradient_is_over_the_whole_table():
    (table,) = zeros((5, 2))
    values = np.array([[1, -8], [2, 1], [3, 0.5]], np.float32)
    slices = tf.IndexedSlices(tf.constant(values), tf.constant([3, 1, 3]), tf.constant([5, 2]))
    dense = np.zeros((5, 2), np.float32)
    np.add.at(dense, [3, 1, 3], values)
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0))
    (change,) = applied(optimizer, [slices], [table])
    np.testing.assert_array_equal(change, masked(dense, "magnitude"))
    assert float(optimizer.density) == pytest.approx(3 / 10)


def test_missing_gradient_passes_and_is_not_counted():
    variables = zeros((4,), (1000,))
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0), error_feedback=True)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tf.constant([1.0, 2.0, 3.0, 6.0]), None], variables)
    np.testing.assert_array_equal(variables[0].numpy(), [0, 0, -3, -6])
    np.testing.assert_array_equal(variables[1].numpy(), 0)
    assert float(optimizer.density) == 0.5


# Error feedback


@pytest.mark.parametrize("rule", RULES)
def test_error_feedback_applied_plus_residual_is_sum_of_gradients(rule):
    variables = zeros(*SHAPES)
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0), rule=rule, error_feedback=True)
    optimizer.build(variables)
    step = tf.function(lambda tensors: optimizer.apply(tensors, variables))
    residuals = [np.zeros(shape, np.float32) for shape in SHAPES]
    for number in range(6):
        gradients = draw(number)
        before = [variable.numpy() for variable in variables]
        step(tensors(gradients))
        carried = [g + r for g, r in zip(gradients, residuals, strict=True)]
        sent = [masked(a, rule) for a in carried]
        residuals = [a - s for a, s in zip(carried, sent, strict=True)]
        for old, variable, part in zip(before, variables, sent, strict=True):
            np.testing.assert_allclose(old - variable.numpy(), part, atol=1e-5)
    for index, shape in enumerate(SHAPES):
        total = sum(draw(number)[index] for number in range(6))
        kept_back = optimizer.variables[index].numpy()
        assert kept_back.shape == shape
        np.testing.assert_allclose(-variables[index].numpy() + kept_back, total, atol=1e-5)


# The inner optimizer


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_inside_is_that_of_masked_gradients(nesterov):
    gradients = [draw(number, [(6, 4)])[0] for number in range(4)]
    (variable,) = zeros((6, 4))
    optimizer = MeanThreshold(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov))
    velocity, expected = np.zeros((6, 4)), np.zeros((6, 4))
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
        velocity = 0.9 * velocity - 0.1 * masked(gradient, "magnitude")
        expected += 0.9 * velocity - 0.1 * masked(gradient, "magnitude") if nesterov else velocity
    np.testing.assert_allclose(variable.numpy(), expected, atol=1e-6)
    assert int(optimizer.iterations) == 4


def test_clipping_inside_is_of_the_masked_gradient():
    gradient = np.array([3.0, 0.5, -4.0, 0.5], np.float32)
    (variable,) = zeros((4,))
    MeanThreshold(keras.optimizers.SGD(1.0, global_clipnorm=1.0)).apply([tf.constant(gradient)], [variable])
    np.testing.assert_allclose(-variable.numpy(), [0.6, 0, -0.8, 0], atol=1e-6)


def test_accumulation_inside_is_of_masked_gradients():
    gradients = draw(3, [(5,), (5,)])
    (variable,) = zeros((5,))
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0, gradient_accumulation_steps=2))
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
    expected = sum(masked(gradient, "magnitude") for gradient in gradients) / 2
    np.testing.assert_allclose(-variable.numpy(), expected, atol=1e-6)


def test_average_inside_is_written_at_the_end():
    (variable,) = zeros((3,))
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5))
    for _ in range(2):
        optimizer.apply([tf.ones(3)], [variable])
    np.testing.assert_allclose(variable.numpy(), -2)
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), -1.5)


def test_learning_rate_is_the_inner_ones():
    inner = keras.optimizers.SGD(0.25)
    optimizer = MeanThreshold(inner)
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.5
    assert float(inner.learning_rate) == 0.5
    (variable,) = zeros((2,))
    optimizer.apply([tf.ones(2)], [variable])
    np.testing.assert_array_equal(variable.numpy(), -0.5)


def test_fixed_loss_scale_inside_cancels():
    optimizer = MeanThreshold(keras.optimizers.SGD(1.0, loss_scale_factor=8.0))
    (variable,) = zeros((2,))
    gradient = optimizer.scale_loss(tf.constant([1.0, 4.0]))
    np.testing.assert_array_equal(gradient.numpy(), [8, 32])
    optimizer.apply([gradient], [variable])
    np.testing.assert_array_equal(variable.numpy(), [0, -4])
    keras.optimizers.LossScaleOptimizer(optimizer)
    assert optimizer.inner_optimizer.loss_scale_factor is None


def test_inner_optimizer_may_be_named_or_serialized():
    assert isinstance(MeanThreshold("adam").inner_optimizer, keras.optimizers.Adam)
    serialized = keras.optimizers.serialize(keras.optimizers.SGD(0.125))
    assert float(MeanThreshold(serialized).learning_rate) == 0.125


# Within Keras


def linear_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, use_bias=True)])


def regression_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    return rng.normal(size=(24, 5)).astype(np.float32), rng.normal(size=(24, 4)).astype(np.float32)


def train_in_numpy(kernel, bias, x, y, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """One epoch of mean squared error, SGD 0.1, momentum 0.9, masked gradients."""
    weights, velocities = [kernel.astype(np.float64), bias.astype(np.float64)], [0.0, 0.0]
    for start in range(0, len(x), batch_size):
        inputs, targets = x[start : start + batch_size], y[start : start + batch_size]
        error = 2 * (inputs @ weights[0] + weights[1] - targets) / targets.size
        for index, gradient in enumerate((inputs.T @ error, error.sum(axis=0))):
            velocities[index] = 0.9 * velocities[index] - 0.1 * masked(gradient, "magnitude")
            weights[index] = weights[index] + velocities[index]
    return weights[0], weights[1]


@pytest.mark.parametrize(
    "compile_arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 3}, {"run_eagerly": True}]
)
def test_fit_trains_as_numpy_does(compile_arguments):
    x, y = regression_data()
    model = linear_model()
    expected = train_in_numpy(*model.get_weights(), x, y, batch_size=4)
    optimizer = MeanThreshold(keras.optimizers.SGD(0.1, momentum=0.9))
    model.compile(optimizer=optimizer, loss="mse", **{"jit_compile": False, **compile_arguments})
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for weight, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, value, atol=1e-5)
    assert 0 < float(optimizer.density) < 1
    assert int(optimizer.iterations) == 6


def test_compiled_loop_is_traced_once_and_returns_iterations():
    x, y = regression_data()
    model, traces = linear_model(), []
    optimizer = MeanThreshold(keras.optimizers.SGD(0.1, momentum=0.9), error_feedback=True)

    @tf.function
    def step(inputs, targets):
        traces.append(None)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        return optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True)), loss

    optimizer.build(model.trainable_variables)
    results = [step(tf.constant(x), tf.constant(y)) for _ in range(20)]
    assert len(traces) == 1
    assert int(results[-1][0]) == 20
    assert results[-1][1] < results[0][1]


def test_mixed_precision_scales_the_loss_outside():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        x, y = regression_data()
        model = linear_model()
        optimizer = MeanThreshold(keras.optimizers.SGD(0.1), error_feedback=True)
        model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        losses = model.fit(x, y, batch_size=24, epochs=8, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy(before)
    assert losses[-1] < losses[0]
    assert 0 < float(optimizer.density) < 1
    residuals = [variable.numpy() for variable in optimizer.variables[:2]]
    assert all(np.isfinite(residual).all() and np.abs(residual).max() < 10 for residual in residuals)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with numpy 2
@pytest.mark.parametrize("error_feedback", [False, True])
def test_saved_model_goes_on_as_if_it_had_not_been_saved(tmp_path, error_feedback):
    x, y = regression_data()
    model = linear_model()
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(
        optimizer=MeanThreshold(inner, rule="signed", error_feedback=error_feedback, name="mask"),
        loss="mse",
        jit_compile=False,
    )
    model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, MeanThreshold)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for either in (model, loaded):
        either.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(loaded.optimizer.iterations) == 6


def test_configuration_makes_the_same_optimizer():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    first = MeanThreshold(keras.optimizers.SGD(schedule, momentum=0.5), rule="signed", error_feedback=True)
    second = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(first))
    assert isinstance(second, MeanThreshold)
    assert second.get_config() == first.get_config()
    assert (second.rule, second.error_feedback) == ("signed", True)
    assert second.inner_optimizer.momentum == 0.5


def test_state_is_residuals_and_the_inner_optimizers():
    variables = zeros((3,), (2,))
    plain, carrying = MeanThreshold("sgd"), MeanThreshold("sgd", error_feedback=True)
    for optimizer in (plain, carrying):
        optimizer.build(variables)
    assert plain.variables == plain.inner_optimizer.variables
    assert [tuple(v.shape) for v in carrying.variables[:2]] == [(3,), (2,)]
    assert carrying.variables[2:] == carrying.inner_optimizer.variables
    assert float(plain.density) == 1


# Refusals


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inner_optimizer": "sgd", "rule": "top"}, ValueError, "magnitude, signed.*'top'"),
        ({"inner_optimizer": "sgd", "clipnorm": 1.0}, ValueError, "Set `clipnorm` on the inner optimizer"),
        ({"inner_optimizer": "sgd", "learning_rate": 1.0}, ValueError, "Set `learning_rate` on the inner"),
        ({"inner_optimizer": "sgd", "momentun": 1.0}, TypeError, "no argument `momentun`"),
        ({"inner_optimizer": 0.1}, TypeError, "Received: 0.1"),
        ({"inner_optimizer": MeanThreshold("sgd")}, ValueError, "second mask"),
        (
            {"inner_optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
            ValueError,
            "other way round",
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MeanThreshold(**arguments)


def test_other_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(StartupError, match="runs on jax") as caught:
        MeanThreshold("sgd")
    assert "KERAS_BACKEND=tensorflow" in caught.value.remedy


def test_apply_before_build_and_with_wrong_lists_is_refused():
    variables = zeros((2,), (2,))
    optimizer = MeanThreshold("sgd")
    with pytest.raises(ValueError, match="needs `trainable_variables`"):
        optimizer.apply([tf.ones(2)])
    with pytest.raises(ValueError, match="1 gradients for 2 variables"):
        optimizer.apply([tf.ones(2)], variables)
    optimizer.build(variables)
    optimizer.apply([tf.ones(2), tf.ones(2)])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([tf.ones(2)], zeros((2,)))
    with pytest.raises(ValueError, match="not supported with the TensorFlow backend"):
        optimizer.stateless_apply([], [], [])


def test_lookup_gradient_makes_no_warning():
    (table,) = zeros((5, 2))
    optimizer = MeanThreshold("sgd")
    optimizer.build([table])

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table.value, rows) ** 2 + 1)
        optimizer.apply(tape.gradient(loss, [table.value]), [table])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(tf.constant([1, 1, 4]))
