"""A worker's steps through a parameter server against plain Keras: the same model, batches and weights in the end."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from p2pdl.aggregation import OptimizerSettings
from p2pdl.errors import DivergedError
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.puller.inbox import aligned_empty
from p2pdl.sparsifier import make_sparsifier
from p2pdl.synchronisation import POLICIES, PolicySettings
from p2pdl.training.gradient import GradientStep
from p2pdl.training.server_contact import HEARD_SECONDS, ServerContact
from p2pdl.training.step import compile_step
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.training.worker_exchange import Change, Gradient, WorkerExchange
from tests.puller.test_server_link import SETTINGS, Servers
from tests.training.test_weights import vector_of

LEARNING_RATE, MOMENTUM, STEPS = 0.05, 0.9, 12


def new_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(30, activation="relu"), keras.layers.BatchNormalization()]
        + [keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.01))]
    )


def batches() -> list[tuple[tf.Tensor, tf.Tensor]]:
    rng = np.random.default_rng(0)
    return [
        (tf.constant(rng.normal(size=(16, 20)).astype(np.float32)), tf.constant(rng.integers(0, 4, 16)))
        for _ in range(STEPS)
    ]


def loss_of() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)


def by_keras() -> np.ndarray:
    """The weights that plain training ends with."""
    model = new_model()
    step = compile_step(model, sgd(), loss_of())
    for inputs, labels in batches():
        step(inputs, labels)
    return vector_of(ModelWeights(model))


def employed(servers: Servers, model: keras.Model, at_server: bool) -> tuple[object, WorkerExchange]:
    """A worker's step and exchange."""
    links = servers.links("ada")
    spec = spec_of(model)
    pulled = links[0].vector if len(links) == 1 else aligned_empty(spec.size)
    weights = ModelWeights(model, pulled)
    step = GradientStep(model, loss_of()) if at_server else compile_step(model, sgd(), loss_of())
    work = Gradient(step.vector) if isinstance(step, GradientStep) else Change(weights, pulled)
    sparsifier = make_sparsifier("none", spec, 0)
    contact = ServerContact(links, weights, pulled, servers.network.clock, lambda: False)
    return step, WorkerExchange(contact, work, sparsifier, servers.network.clock)


def settings(policy: str, at_server: bool) -> ParameterServerSettings:
    optimizer = OptimizerSettings(LEARNING_RATE, MOMENTUM)
    name = "momentum" if at_server else "none"
    return ParameterServerSettings(policy, PolicySettings(check_period=1e-6), "consgd", name, optimizer)


@pytest.mark.parametrize("servers_count", [1, 3])
@pytest.mark.parametrize("policy, at_server", [*((name, True) for name in POLICIES if name != "adsp"), ("adsp", False)])
def test_one_worker_ends_as_plain_training_does(policy: str, at_server: bool, servers_count: int) -> None:
    model = new_model()
    servers = Servers(settings(policy, at_server), spec_of(model), servers_count)
    step, exchange = employed(servers, model, at_server)
    before = vector_of(ModelWeights(model))
    exchange.start()
    np.testing.assert_array_equal(vector_of(ModelWeights(model)), before)
    for number, (inputs, labels) in enumerate(batches(), 1):
        exchange.after_step(number, 16 * number, float(step(inputs, labels)))
    exchange.finish()
    assert not exchange.take_final()
    # Sums of float32 in another order: a few units in the last place.
    np.testing.assert_allclose(vector_of(ModelWeights(model)), by_keras(), rtol=2e-5, atol=2e-6)
    assert all(core.is_done and core.samples == 16 * STEPS for core in servers.cores)


def test_statistics_stay_the_workers_own() -> None:
    model = new_model()
    servers = Servers(settings("bsp", True), spec_of(model))
    step, exchange = employed(servers, model, True)
    exchange.start()
    for number, (inputs, labels) in enumerate(batches()[:3], 1):
        exchange.after_step(number, 16 * number, float(step(inputs, labels)))
    [moving_mean] = [it for it in model.non_trainable_variables if "moving_mean" in it.path]
    assert np.abs(moving_mean.numpy()).max() > 0.0
    [span] = [it.span for it in spec_of(model).variables if it.name.endswith("moving_mean")]
    snapshot = servers.cores[0].load()
    assert snapshot is not None and not snapshot.vector[span].any()


def test_gradient_is_that_of_the_loss_with_its_regularisation() -> None:
    model = new_model()
    step = GradientStep(model, loss_of())
    inputs, labels = batches()[0]
    value = step(inputs, labels)
    with tf.GradientTape() as tape:
        wanted = tf.reduce_mean(loss_of()(labels, model(inputs, training=True))) + tf.add_n(model.losses)
    gradients = tape.gradient(wanted, model.trainable_variables)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    trained = [it.span for it in spec_of(model).variables if it.trainable]
    for span, gradient in zip(trained, gradients, strict=True):
        np.testing.assert_allclose(step.vector[span], gradient.numpy().reshape(-1), rtol=1e-4, atol=1e-6)
    for span in spec_of(model).state_spans:
        assert not step.vector[span].any()


def test_loss_that_is_no_number_is_never_pushed() -> None:
    model = new_model()
    servers = Servers(settings("asp", True), spec_of(model))
    _, exchange = employed(servers, model, True)
    exchange.start()
    with pytest.raises(DivergedError):
        exchange.after_step(1, 16, math.nan)
    assert servers.cores[0].counters["pushes"] == 0


def test_worker_that_lapsed_joins_again_and_drops_what_was_made_from_old_weights() -> None:
    model = new_model()
    servers = Servers(settings("asp", True), spec_of(model))
    step, exchange = employed(servers, model, True)
    exchange.start()
    first, second = batches()[:2]
    exchange.after_step(1, 16, float(step(*first)))
    assert servers.cores[0].counters["pushes"] == 1
    servers.network.clock.advance_to(servers.network.clock.now() + 60.0)
    exchange.after_step(2, 32, float(step(*second)))
    assert servers.cores[0].counters == {**servers.cores[0].counters, "pushes": 1, "lapsed": 1}
    exchange.after_step(3, 48, float(step(*second)))
    assert servers.cores[0].counters["pushes"] == 2
    assert exchange.counters.failures == {"not-joined": 1}


def test_worker_keeps_its_leases_for_as_long_as_it_evaluates() -> None:
    model = new_model()
    servers = Servers(settings("asp", True), spec_of(model), 2)
    step, exchange = employed(servers, model, True)
    clock, cores = servers.network.clock, servers.cores
    # Before the first step, when it has not joined, there is nothing to keep.
    exchange.while_evaluating()
    assert servers.checks == 0
    exchange.start()
    exchange.after_step(1, 16, float(step(*batches()[0])))
    before = servers.checks
    for _ in range(600):
        clock.advance_to(clock.now() + 0.1)
        exchange.while_evaluating()
    exchange.after_evaluation(60.0)
    # To each server every other second: the requests' own time in this network makes it a little less.
    assert 50 <= servers.checks - before <= 2 * 60 / HEARD_SECONDS + 2
    exchange.after_step(2, 32, float(step(*batches()[1])))
    assert [core.counters["pushes"] for core in cores] == [2, 2]
    assert [core.counters["lapsed"] for core in cores] == [0, 0] and exchange.counters.failures == {}


def test_server_that_is_away_costs_an_evaluation_one_time_out() -> None:
    model = new_model()
    servers = Servers(settings("asp", True), spec_of(model))
    step, exchange = employed(servers, model, True)
    clock = servers.network.clock
    exchange.start()
    exchange.after_step(1, 16, float(step(*batches()[0])))
    servers.network.faults.paused.add("server:0")
    began = clock.now()
    for _ in range(60):
        clock.advance_to(clock.now() + 1.0)
        exchange.while_evaluating()
    assert clock.now() - began == pytest.approx(60.0 + SETTINGS.timeout, abs=0.1)
    assert exchange.counters.failures == {"timeout": 1}
    servers.network.faults.paused.clear()
    exchange.after_step(2, 32, float(step(*batches()[1])))
    # It has lapsed meanwhile, joins anew, and is heard again.
    exchange.after_step(3, 48, float(step(*batches()[2])))
    assert exchange.counters.failures == {"timeout": 1, "not-joined": 1}
    checks = servers.checks
    clock.advance_to(clock.now() + 60.0)
    exchange.while_evaluating()
    assert servers.checks == checks + 1


@pytest.mark.parametrize("at_server", [True, False])
def test_after_a_divergence_training_goes_on_from_the_server(at_server: bool) -> None:
    model = new_model()
    spec = spec_of(model)
    servers = Servers(settings("asp", at_server), spec)
    step, exchange = employed(servers, model, at_server)
    exchange.start()
    [core] = servers.cores
    first, second, third = batches()[:3]
    exchange.after_step(1, 16, float(step(*first)))
    with pytest.raises(DivergedError):
        exchange.after_step(2, 32, math.inf)
    exchange.call_off()
    for variable in model.trainable_variables:
        variable.assign(tf.fill(variable.shape, 0.5))
    exchange.after_step(3, 48, float(step(*second)))
    snapshot = core.load()
    assert snapshot is not None and core.counters["pushes"] == 1
    for place in spec.variables:
        if place.trainable:
            np.testing.assert_array_equal(vector_of(ModelWeights(model))[place.span], snapshot.vector[place.span])
    exchange.after_step(4, 64, float(step(*third)))
    assert core.counters["pushes"] == 2 and exchange.counters.merges == 4


def test_gradient_that_is_not_finite_is_never_pushed_though_the_loss_is() -> None:
    model = new_model()
    servers = Servers(settings("asp", True), spec_of(model))
    step, exchange = employed(servers, model, True)
    exchange.start()
    assert isinstance(step, GradientStep)
    loss = float(step(*batches()[0]))
    step.vector[3] = np.nan
    with pytest.raises(DivergedError, match="what step 1 has made"):
        exchange.after_step(1, 16, loss)
    assert servers.cores[0].counters["pushes"] == 0
