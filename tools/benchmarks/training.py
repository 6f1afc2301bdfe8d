"""A training step with and without the exchange; imports TensorFlow, and is imported by processes that need it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import TracebackType

import keras
import numpy as np
import tensorflow as tf

from experiments.pulled_vector import CHANGE_SIGMA
from p2pdl import merge, topology
from p2pdl.clock import MonotonicClock
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.puller.directory import Directory
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.spec import WeightSpec
from p2pdl.store import memory
from p2pdl.store.writer import StoreWriter
from p2pdl.training import losses
from p2pdl.training.downloads import Downloads
from p2pdl.training.exchange import Exchange
from p2pdl.training.exchange_settings import ExchangeSettings
from p2pdl.training.gradient import GradientStep
from p2pdl.training.mean_threshold import MeanThreshold
from p2pdl.training.models.registry import build
from p2pdl.training.step import compile_step
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.transport.zeromq import ZmqClient
from tools.benchmarks.cases import Case
from tools.benchmarks.peers import pull_new_versions, run_on, serve_new_versions
from tools.benchmarks.served import CLUSTER, Served
from tools.benchmarks.worker import Worker

CLASSES, BATCHES = 10, 8
LEARNING_RATE, MOMENTUM = 0.001, 0.9
SETTLE_SECONDS = 60.0


class Training:
    """A model and its compiled step, over batches of noise.

    Args:
        case: What to train.
        masked: Whether the step masks gradients by their mean.

    Attributes:
        model: The Keras model.
        spec: Its layout.
        steps: Steps done.
    """

    def __init__(self, case: Case, masked: bool) -> None:
        self.model = build(case.model, input_shape=case.input_shape, classes=CLASSES, width=case.width)
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
        if masked:
            optimizer = MeanThreshold(optimizer)
        self._step = compile_step(self.model, optimizer, losses.resolve("auto", self.model))
        self.spec: WeightSpec = spec_of(self.model)
        random = np.random.default_rng(0)
        shape = (case.batch, *case.input_shape)
        self._inputs = [tf.constant(random.random(shape, dtype=np.float32)) for _ in range(BATCHES)]
        self._labels = [tf.constant(random.integers(CLASSES, size=case.batch).astype(np.int32)) for _ in range(BATCHES)]
        self.batch = case.batch
        self.steps = 0

    def step(self) -> float:
        """Do one step of the bare loop; the loss of its batch."""
        return float(self._step(*self.next_batch()))

    def next_batch(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Inputs and labels of the next step."""
        batch = self.steps % BATCHES
        self.steps += 1
        return self._inputs[batch], self._labels[batch]


class Gradients:
    """The gradients of a worker whose optimizer is at the parameter server.

    Args:
        case: What model.

    Attributes:
        spec: The model's layout.
        vector: The gradient of the last step.
    """

    def __init__(self, case: Case) -> None:
        self._training = Training(case, masked=False)
        self.spec = self._training.spec
        self._step = GradientStep(self._training.model, losses.resolve("auto", self._training.model))
        self.vector = self._step.vector

    def step(self) -> float:
        """Compute the next gradient; the loss of its batch."""
        return float(self._step(*self._training.next_batch()))


class Gossip:
    """The exchange of a training with two live peers: it pulls from one, and the other one pulls from it.

    The training has a server process of its own, as every node has, and so has the peer that it pulls from.

    Args:
        training: Its weights are exchanged.
        cores: Where the peers, the training's own server and its puller run; anywhere if there are none.

    Attributes:
        exchange: The training's end.
        own: The training's store and server.
        pulls: Versions that the other peer has pulled, known after `rest`.
    """

    def __init__(self, training: Training, cores: list[int]) -> None:
        self._training = training
        spec = training.spec
        rows = "\n".join(spec.rows())
        training_cores = sorted(os.sched_getaffinity(0)) if cores else []
        with ExitStack() as stack:
            run_on(cores)
            self.own = own = stack.enter_context(Served("own", spec))
            served = stack.enter_context(Worker(serve_new_versions, rows=rows, cores=cores))
            pulling = Worker(pull_new_versions, rows=rows, address=own.address, cores=cores)
            self._pulling = stack.enter_context(pulling)
            addresses = {"served": served.ask("address")["address"]}
            clock = MonotonicClock()

            def make_requester() -> Requester:
                run_on(cores)
                return Requester(ZmqClient(), CLUSTER, "own", clock)

            self._downloads = Downloads(make_requester, spec, 1, clock)
            run_on(training_cores)
            weights = ModelWeights(training.model, *(inbox.vector for inbox in self._downloads.inboxes))
            chosen = topology.create("ring", ["own", "served"])
            self.exchange = Exchange(
                weights,
                self._downloads,
                own.writer,
                Neighbours("own", ["served"], chosen, np.random.default_rng(0)),
                Directory("own", addresses),
                merge.create("mean"),
                ExchangeSettings(),
                clock,
            )
            stack.callback(self.exchange.close)
            weights.warm_up()
            self._stack = stack.pop_all()
        self.pulls = 0

    def __enter__(self) -> Gossip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def step(self) -> None:
        """Do one step and what a node does after it."""
        loss = self._training.step()
        self.exchange.after_step(self._training.steps, self._training.steps * self._training.batch, loss)

    def resume(self) -> None:
        """Let the pulling peer begin."""
        self._pulling.ask("go")

    def rest(self) -> None:
        """Let both pulls under way end, so that they do not run into a block of the bare loop."""
        self.pulls = self._pulling.ask("stop")["pulls"]
        while self._downloads.is_busy:
            self.exchange._collect(SETTLE_SECONDS)


class Exchanged:
    """A model's weights, and the store that they are published in, without anybody who pulls.

    Args:
        case: What model.

    Attributes:
        spec: The model's layout.
        weights: Its variables, bound to an inbox that holds a small difference.
    """

    def __init__(self, case: Case) -> None:
        model = Training(case, masked=False).model
        self.spec = spec_of(model)
        inbox = Inbox(self.spec)
        inbox.vector[:] = CHANGE_SIGMA * np.random.default_rng(0).standard_normal(self.spec.size, np.float32)
        self.weights = ModelWeights(model, inbox.vector)
        self._store = memory.create()
        self._writer = StoreWriter(self._store, self.spec)

    def __enter__(self) -> Exchanged:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()
        os.close(self._store)

    def publish(self) -> None:
        """Publish the weights as they are."""
        self._writer.publish(self.weights.copy_in_pieces, step=1, samples=1, loss=1.0)
