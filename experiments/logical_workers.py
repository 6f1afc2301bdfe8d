"""Workers of a parameter server that take turns in one process: what they compute and send is real, their speed is not.

Each has weights as it has pulled them, batches, a sparsifier and a link of its own; the messages go to the real server
as bytes, over the in-memory network. Under `bsp` they go in step; under `asp` each step takes a time of its own, and a
worker may die in the middle of one, of which nobody is told.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from p2pdl.aggregation import OptimizerSettings
from p2pdl.clock import VirtualClock
from p2pdl.errors import DivergedError
from p2pdl.partition import partition
from p2pdl.protocol.parameter_server import ParameterServer
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.puller.inbox import aligned_empty
from p2pdl.puller.requests import Requester
from p2pdl.puller.server_link import LinkSettings, ServerLink
from p2pdl.server.answer import Answerer
from p2pdl.server.parameter_view import ParameterView
from p2pdl.sparsifier import GradientSparsifier, make_sparsifier
from p2pdl.training import losses
from p2pdl.training.batches import Batches
from p2pdl.training.data.registry import load
from p2pdl.training.evaluate import evaluate
from p2pdl.training.gradient import GradientStep
from p2pdl.training.models.registry import build
from p2pdl.training.weights import ModelWeights
from p2pdl.transport.contract import Frames
from p2pdl.transport.memory import MemoryNetwork

CLUSTER, SERVER = "logical", "server"

LEASE_SECONDS = 20.0
"""Of virtual time, in which a step takes about one second: far more than any step of a worker that is alive."""

SPREAD = 0.3
"""Standard deviation of the logarithm of the length of a step: the workers are of about equal speed."""


@dataclass(frozen=True, slots=True)
class System:
    """How the workers and the server train.

    Attributes:
        policy: `asp` or `bsp`.
        rule: The server's update rule.
        learning_rate: Of an update.
        momentum: Of the server's optimizer; none if 0.
        sparsifier: What a worker pushes of its gradient.
        settings: Of the sparsifier.
        values: How values are coded.
    """

    policy: str = "asp"
    rule: str = "consgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    sparsifier: str = "none"
    settings: Mapping[str, float | bool] = field(default_factory=dict)
    values: str = "float32"


@dataclass(frozen=True, slots=True)
class Look:
    """How a run is after some pushes.

    Attributes:
        pushes: Of all workers.
        ingress: Bytes of all frames that the server has received since it had the first weights.
        accuracy: Test accuracy of its weights.
        loss: Their test loss.
        train_loss: Mean loss of the batches since the look before.
    """

    pushes: int
    ingress: int
    accuracy: float
    loss: float
    train_loss: float


class Task:
    """What is trained: one model for all workers, and each worker's part of the data.

    Args:
        source: Data source.
        model: A built-in model.
        width: Factor on its width.
        workers: How many share the data, in equal random parts.
        batch: Samples of a push.
        seed: Of the weights to begin with, the parts, the batches, and the order of the steps.

    Raises:
        StartupError: The data cannot be had.
    """

    def __init__(self, source: str, model: str, width: float, workers: int, batch: int, seed: int) -> None:
        data = load(source, Path.cwd())
        self.seed, self.batch = seed, batch
        self.samples = len(data.y_train)
        self._test = data.x_test, data.y_test
        self._model = build(
            model,
            input_shape=data.input_shape,
            classes=data.classes,
            width=width,
            arguments={},
            seed=seed,
            folder=None,
        )
        self._loss = losses.resolve("auto", self._model)
        self.gradient = GradientStep(self._model, self._loss)
        parts = partition("iid", data.y_train, workers, seed, 1.0)
        self.batches = [
            Batches(data.x_train, data.y_train, part, batch, seed, place) for place, part in enumerate(parts)
        ]
        self.spec = ModelWeights(self._model).spec
        self.weights = ModelWeights(self._model, aligned_empty(self.spec.size))
        self.initial = np.zeros(self.spec.size, np.float32)
        self.weights.copy_to(self.initial)

    def look(self, vector: np.ndarray, samples: int) -> tuple[float, float]:
        """Test accuracy and loss of weights, on so many samples at most."""
        self.weights.assign(vector)
        found = evaluate(self._model, *self._test, self._loss, samples)
        return found.accuracy, found.loss


@dataclass(slots=True)
class _Worker:
    link: ServerLink
    sparsifier: GradientSparsifier
    batches: Batches


class Crew:
    """A server and its workers, which have pulled the weights to begin with.

    Args:
        task: What is trained.
        system: How.

    Raises:
        ValueError: A policy, rule, sparsifier or setting is unknown.
    """

    def __init__(self, task: Task, system: System) -> None:
        self._task, self._system = task, system
        self._ingress = 0
        count = len(task.batches)
        settings = ParameterServerSettings(
            system.policy,
            rule=system.rule,
            optimizer="momentum" if system.momentum else "sgd",
            optimizer_settings=OptimizerSettings(system.learning_rate, system.momentum),
            rate=1.0,
            values=system.values,
            lease=LEASE_SECONDS,
            expected=count,
        )
        self._core = ParameterServer(settings, "life")
        self._network = MemoryNetwork(VirtualClock(), task.seed)
        self._serve(count)
        self._random = np.random.default_rng([task.seed, count])
        self._workers = [self._worker(place) for place in range(count)]
        self._begin()

    @property
    def staleness(self) -> float:
        """Versions between a push and the pull that it is based on, the mean of all."""
        return self._core.figures()["staleness"]

    @property
    def given_up(self) -> int:
        """Workers that the server waits for no more, since they were silent for as long as their lease."""
        return self._core.counters["lapsed"]

    def run(
        self, pushes: int, look_every: int, samples: int, deaths: Mapping[int, int] | None = None
    ) -> Iterator[Look]:
        """Train, and look at the server's weights now and then.

        Args:
            pushes: Of all workers together.
            look_every: Pushes between two looks; there is one at the end too.
            samples: Test samples of each look.
            deaths: After how many pushes some workers, by their places, die; only under `asp`.

        Raises:
            DivergedError: A loss is not finite.
            PeerError: The server has refused something.
            ValueError: Nobody would be left, or somebody dies for whom the others would wait.
        """
        deaths = deaths or {}
        in_step = self._system.policy == "bsp"
        if len(deaths) >= len(self._workers) or (deaths and in_step):
            raise ValueError(f"{len(deaths)} of {len(self._workers)} workers cannot die under {self._system.policy}")
        order = self._in_step() if in_step else self._at_own_pace(deaths)
        train_losses = []
        for number in range(1, pushes + 1):
            train_losses.append(self._step(self._workers[next(order)], number))
            if number % look_every == 0 or number == pushes:
                snapshot = self._core.load()
                assert snapshot is not None
                accuracy, loss = self._task.look(snapshot.vector, samples)
                yield Look(number, self._ingress, accuracy, loss, float(np.mean(train_losses)))
                train_losses.clear()

    def _in_step(self) -> Iterator[int]:
        """Who pushes next: one after another, who pull once all have pushed."""
        while True:
            yield from range(len(self._workers))
            for worker in self._workers:
                _pull(worker.link)
            self._network.journal.clear()

    def _at_own_pace(self, deaths: Mapping[int, int]) -> Iterator[int]:
        """Who pushes next: whose step ends first, unless it is dead by then; all have begun at the same moment."""
        ends = [(self._step_length(), place) for place in range(len(self._workers))]
        heapq.heapify(ends)
        pushes = 0
        while True:
            moment, place = heapq.heappop(ends)
            if pushes >= deaths.get(place, math.inf):
                continue
            self._network.run_until(max(moment, self._network.clock.now()))
            yield place
            pushes += 1
            _pull(self._workers[place].link)
            self._network.journal.clear()
            heapq.heappush(ends, (moment + self._step_length(), place))

    def _step(self, worker: _Worker, number: int) -> float:
        task = self._task
        inputs, labels = worker.batches.next()
        task.weights.assign(worker.link.vector)
        loss = float(task.gradient(tf.constant(inputs), tf.constant(labels)))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss of push {number} is not finite", "lower the learning rate")
        selection = worker.sparsifier.select(task.gradient.vector, loss)
        worker.link.push(selection, loss, len(labels), number)
        return loss

    def _step_length(self) -> float:
        return float(self._random.lognormal(0.0, SPREAD))

    def _serve(self, workers: int) -> None:
        serving = Serving(CLUSTER, ParameterView(self._core, 0), ServingLimits(uploads=workers), employer=self._core)
        answerer = Answerer(CLUSTER, SERVER, serving)

        def answer(frames: list[memoryview], now: float) -> Frames:
            self._ingress += sum(frame.nbytes for frame in frames)
            return answerer(frames, now).frames

        self._network.serve(SERVER, answer)

    def _worker(self, place: int) -> _Worker:
        task, name = self._task, f"worker{place + 1}"
        requester = Requester(self._network.client(name), CLUSTER, name, self._network.clock)
        settings = LinkSettings(PullSettings(), "float32", self._system.values, 1.0)
        link = ServerLink(SERVER, SERVER, requester, task.spec, slice(0, task.spec.size), settings)
        chance = int(np.random.default_rng([task.seed, place]).integers(2**31))
        sparsifier = make_sparsifier(self._system.sparsifier, task.spec, chance, **self._system.settings)
        batches = task.batches[place]
        batches.step = 0
        return _Worker(link, sparsifier, batches)

    def _begin(self) -> None:
        for worker in self._workers:
            worker.link.join()
        self._workers[0].link.send_initial(self._task.initial)
        for worker in self._workers:
            _pull(worker.link)
        self._ingress = 0


def _pull(link: ServerLink) -> None:
    outcome = link.pull()
    if outcome.error is not None:
        raise outcome.error
