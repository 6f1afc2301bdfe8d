"""A worker that exchanges ranges while it computes, against the same steps in plain numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import wait

import keras
import numpy as np
import pytest
import tensorflow as tf

from p2pdl.aggregation import OptimizerSettings
from p2pdl.errors import DivergedError
from p2pdl.protocol.range_choice import RangeChoice
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.puller.inbox import aligned_empty
from p2pdl.puller.server_link import spans
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.training.gradient import GradientStep
from p2pdl.training.range_exchange import RangeExchange
from p2pdl.training.server_contact import ServerContact
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.types import Float32Vector
from tests.puller.test_server_link import Servers
from tests.training.test_weights import vector_of

RATE, STEPS = 0.05, 11
WIDTH = 800
"""Makes a model of a little more than three shards."""


def new_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((1000,)), keras.layers.Dense(WIDTH, activation="tanh"), keras.layers.Dense(4)])


class Worker:
    """A worker in a network of memory, and what its steps have made.

    Args:
        policy: Of the servers.
        size: Shards of a range.
        servers: How many there are.

    Attributes:
        gradients: Of each step.
        began_from: The weights of each step.
    """

    def __init__(self, policy: str = "asp", size: int = 1, servers: int = 1) -> None:
        self.model = new_model()
        spec = spec_of(self.model)
        optimizer = OptimizerSettings(RATE)
        settings = ParameterServerSettings(policy, optimizer="sgd", optimizer_settings=optimizer, rate=1.0)
        self.servers = Servers(settings, spec, servers)
        links = self.servers.links("ada")
        pulled = links[0].vector if servers == 1 else aligned_empty(spec.size)
        self.weights = ModelWeights(self.model, pulled)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        self.step = GradientStep(self.model, loss)
        contact = ServerContact(links, self.weights, pulled, self.servers.network.clock, lambda: False)
        choice = RangeChoice(sum(link.shards for link in links), size)
        clock = self.servers.network.clock
        self.exchange = RangeExchange(contact, self.step.vector, choice, clock)
        self.gradients: list[Float32Vector] = []
        self.began_from: list[Float32Vector] = []
        self._rng = np.random.default_rng(0)

    @property
    def at_servers(self) -> Float32Vector:
        """The weights that the servers hold."""
        return np.concatenate([core.load().vector for core in self.servers.cores])  # type: ignore[union-attr]

    def train(self, loss: float | None = None) -> None:
        """Do one step."""
        self.began_from.append(vector_of(self.weights))
        inputs = tf.constant(self._rng.normal(size=(8, 1000)).astype(np.float32))
        found = float(self.step(inputs, tf.constant(self._rng.integers(0, 4, 8))))
        number = len(self.began_from)
        if loss is None:
            self.gradients.append(self.step.vector.copy())
        self.exchange.after_step(number, 8 * number, found if loss is None else loss)


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    worker = Worker(*getattr(request, "param", ()))
    yield worker
    worker.exchange.close()


def keys_of(worker: Worker) -> list[slice]:
    """The elements of each shard of each server."""
    return [
        slice(start, min(start + SHARD_ELEMENTS, span.stop))
        for span in spans(worker.weights.spec.size, len(worker.servers.cores))
        for start in range(span.start, span.stop, SHARD_ELEMENTS)
    ]


def by_numpy(worker: Worker, start: Float32Vector, size: int) -> tuple[list[Float32Vector], Float32Vector]:
    """The weights that each step begins from, and those in the end: what is pushed after a step is there a step later,
    and of what is not pushed the mean is, when it is its turn."""
    keys = keys_of(worker)
    local, server, waiting = start.copy(), start.copy(), np.zeros_like(start)
    counts, first, under_way = [0] * len(keys), 0, range(0)
    begun = []
    for gradient in worker.gradients:
        begun.append(local.copy())
        waiting += gradient
        counts = [count + 1 for count in counts]
        for key in under_way:
            local[keys[key]] = server[keys[key]]
        under_way = range(first, min(first + size, len(keys)))
        for key in under_way:
            server[keys[key]] -= np.float32(RATE / counts[key]) * waiting[keys[key]]
            waiting[keys[key]], counts[key] = 0.0, 0
        first = under_way.stop % len(keys)
    for key, count in enumerate(counts):
        server[keys[key]] -= np.float32(RATE / max(1, count)) * waiting[keys[key]]
    return begun, server


@pytest.mark.parametrize(
    "worker, size",
    [
        *(((policy, size, 1), size) for policy in ("asp", "bsp", "ssp") for size in (1, 2, 4, 9)),
        (("bsp", 1, 3), 1),
        (("asp", 2, 3), 2),
        (("ssp", 3, 2), 3),
    ],
    indirect=["worker"],
)
def test_steps_and_the_end_are_those_of_plain_numpy(worker: Worker, size: int) -> None:
    start = vector_of(worker.weights)
    worker.exchange.start()
    for _ in range(STEPS):
        worker.train()
    begun, end = by_numpy(worker, start, size)
    for found, wanted in zip(worker.began_from, begun, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    worker.exchange.finish()
    assert not worker.exchange.take_final()
    np.testing.assert_allclose(vector_of(worker.weights), end, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(vector_of(worker.weights), worker.at_servers)
    assert all(core.is_done and core.samples == 8 * STEPS for core in worker.servers.cores)
    left = 1 if size < len(keys_of(worker)) else 0
    assert {core.counters["pushes"] for core in worker.servers.cores} == {STEPS + left}


@pytest.mark.parametrize("worker", [("asp", 1, 2)], indirect=True)
def test_an_exchange_moves_the_bytes_of_its_range(worker: Worker) -> None:
    worker.exchange.start()
    whole = worker.exchange.counters.payload_bytes_received
    assert whole == 4 * worker.weights.spec.size
    for _ in range(5):
        worker.train()
    assert worker.exchange.counters.merges == 4
    moved = worker.exchange.counters.payload_bytes_received - whole
    assert moved <= 5 * 4 * SHARD_ELEMENTS


def test_what_is_not_finite_is_never_pushed_and_training_goes_on_from_the_server(worker: Worker) -> None:
    worker.exchange.start()
    for _ in range(3):
        worker.train()
    with pytest.raises(DivergedError, match="the loss of step 4"):
        worker.train(math.nan)
    worker.exchange.call_off()
    worker.weights.assign(np.full(worker.weights.spec.size, 7.0, np.float32))
    worker.train()
    np.testing.assert_array_equal(vector_of(worker.weights), worker.at_servers)
    worker.train()
    worker.step.vector[5] = np.inf
    with pytest.raises(DivergedError, match="what step 7 has made"):
        worker.exchange.after_step(7, 56, 1.0)
    assert np.isfinite(worker.at_servers).all()


def test_worker_that_lapsed_joins_again_and_takes_all_of_the_weights(worker: Worker) -> None:
    worker.exchange.start()
    worker.train()
    worker.train()
    clock = worker.servers.network.clock
    clock.advance_to(clock.now() + 60.0)
    [core] = worker.servers.cores
    for _ in range(3):
        worker.train()
    assert core.counters["lapsed"] == 1 and worker.exchange.counters.failures == {"not-joined": 1}
    assert core.counters["pushes"] >= 3


def test_worker_keeps_its_lease_while_it_evaluates_and_ranges_stay_as_long_as_steps_hide(worker: Worker) -> None:
    worker.exchange.start()
    clock = worker.servers.network.clock
    computed: list[float] = []
    worker.exchange._choice.on_computed = computed.append  # type: ignore[method-assign]
    for _ in range(3):
        worker.train()
        clock.advance_to(clock.now() + 0.5)
        # Waits for the exchange under way: until then that is heard of.
        wait([worker.exchange._under_way])  # type: ignore[list-item]
        began = clock.now()
        while clock.now() < began + 30.0:
            clock.advance_to(clock.now() + 1.0)
            worker.exchange.while_evaluating()
        worker.exchange.after_evaluation(clock.now() - began)
    worker.train()
    [core] = worker.servers.cores
    assert core.counters["lapsed"] == 0 and worker.exchange.counters.failures == {}
    # What the exchange itself takes in this network is a part of the time between two steps.
    assert all(0.5 <= seconds < 1.0 for seconds in computed[1:]) and len(computed) == 4
