"""Workers of a parameter server that take turns in one process: what they compute and send is real, their speed is not.

Each has weights as it has pulled them, batches, a sparsifier and a link of its own; the messages go to the real server
as bytes, over the in-memory network.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
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

LEASE_SECONDS = 1e9
"""Of virtual time: nobody is ever given up."""

SPREAD = 0.3
"""Standard deviation of the logarithm of the length of a step: the workers are of about equal speed."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a run is after some pushes.

    Attributes:
        pushes: Of all workers.
        ingress: Bytes of all frames that the server has received since it had the first weights.
        accuracy: Test accuracy of its weights.
        loss: Their test loss.
    """

    pushes: int
    ingress: int
    accuracy: float
    loss: float


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
        kept: Share of the entries of each variable that AdaComp's sparsifier pushes; None to push all.
        values: How values are coded.
        rule: The server's update rule.
        learning_rate: Of a push.
    """

    def __init__(self, task: Task, kept: float | None, values: str, rule: str, learning_rate: float) -> None:
        self._task = task
        self._ingress = 0
        count = len(task.batches)
        settings = ParameterServerSettings(
            "asp",
            rule=rule,
            optimizer="sgd",
            optimizer_settings=OptimizerSettings(learning_rate),
            rate=1.0,
            values=values,
            lease=LEASE_SECONDS,
            expected=count,
        )
        self._core = ParameterServer(settings, "life")
        self._network = MemoryNetwork(VirtualClock(), task.seed)
        self._serve(count)
        self._random = np.random.default_rng([task.seed, count])
        self._workers = [self._worker(place, kept, values) for place in range(count)]
        self._begin()

    @property
    def staleness(self) -> float:
        """Versions between a push and the pull that it is based on, the mean of all."""
        return self._core.figures()["staleness"]

    def run(self, pushes: int, look_every: int, samples: int) -> Iterator[Look]:
        """Train, and look at the server's weights now and then.

        Args:
            pushes: Of all workers together.
            look_every: Pushes between two looks; there is one at the end too.
            samples: Test samples of each look.

        Raises:
            DivergedError: A loss is not finite.
            PeerError: The server has refused something.
        """
        # Who ends a step next; all have begun at the same moment.
        ends = [(self._step_length(), place) for place in range(len(self._workers))]
        heapq.heapify(ends)
        for number in range(1, pushes + 1):
            now, place = heapq.heappop(ends)
            self._step(self._workers[place], number)
            heapq.heappush(ends, (now + self._step_length(), place))
            if number % look_every == 0 or number == pushes:
                self._network.journal.clear()
                snapshot = self._core.load()
                assert snapshot is not None
                yield Look(number, self._ingress, *self._task.look(snapshot.vector, samples))

    def _step(self, worker: _Worker, number: int) -> None:
        task = self._task
        inputs, labels = worker.batches.next()
        task.weights.assign(worker.link.vector)
        loss = float(task.gradient(tf.constant(inputs), tf.constant(labels)))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss of push {number} is not finite", "lower --learning-rate")
        selection = worker.sparsifier.select(task.gradient.vector, loss)
        worker.link.push(selection, loss, len(labels), number)
        _pull(worker.link)

    def _step_length(self) -> float:
        return float(self._random.lognormal(0.0, SPREAD))

    def _serve(self, workers: int) -> None:
        serving = Serving(CLUSTER, ParameterView(self._core, 0), ServingLimits(uploads=workers), employer=self._core)
        answerer = Answerer(CLUSTER, SERVER, serving)

        def answer(frames: list[memoryview], now: float) -> Frames:
            self._ingress += sum(frame.nbytes for frame in frames)
            return answerer(frames, now).frames

        self._network.serve(SERVER, answer)

    def _worker(self, place: int, kept: float | None, values: str) -> _Worker:
        task, name = self._task, f"worker{place + 1}"
        requester = Requester(self._network.client(name), CLUSTER, name, self._network.clock)
        settings = LinkSettings(PullSettings(), "float32", values, 1.0)
        link = ServerLink(SERVER, SERVER, requester, task.spec, slice(0, task.spec.size), settings)
        if kept is None:
            sparsifier = make_sparsifier("none", task.spec, task.seed)
        else:
            sparsifier = make_sparsifier("adacomp", task.spec, task.seed, fraction=kept)
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
