"""Workers of uneven speed at one parameter server, as a case: real gradients, policies and rules, simulated time.

Nothing travels: a push is applied when its worker's step is over, and a pull takes no time. So what differs between two
runs is what the policy and the rule make of the same steps, and the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures
from p2pdl.aggregation import OptimizerSettings, Update
from p2pdl.errors import DivergedError
from p2pdl.node.children import trainer_environment
from p2pdl.protocol.server_state import ParameterServerSettings, shards_of
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.synchronisation import PolicySettings, make_policy
from p2pdl.types import Float32Vector

if TYPE_CHECKING:
    from experiments.logical_workers import Task

JITTER = 0.1
"""Standard deviation of the logarithm of a step's length: no two steps of real workers end at the same moment."""


@dataclass(frozen=True)
class UnevenRun:
    """What is run.

    Attributes:
        data: What is trained on, see `experiments.harness.data`; each worker has an equal random part.
        step_lengths: Of each worker: time of a step, about.
        rule: The server's update rule.
        learning_rate: Each push counts as 1 / workers of a step of it.
        pushes: Of all workers.
        look_every: Pushes between two evaluations of the server's weights.
        policy: `bsp` excepted, a policy of `p2pdl.synchronisation`.
        staleness: Of `ssp`.
        model: A built-in model.
        width: Factor on its width.
        batch: Samples of a push.
        samples: Test samples of an evaluation.
        seed: Of weights, parts, batches and the lengths of steps.
    """

    data: str
    step_lengths: Sequence[float]
    rule: str
    learning_rate: float
    pushes: int
    look_every: int
    policy: str = "ssp"
    staleness: int = 3
    model: str = "mlp"
    width: float = 0.25
    batch: int = 64
    samples: int = 10_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """How a run is after a push.

    Attributes:
        pushes: Of all workers.
        time: When it came, in the unit of the steps' lengths.
        vector: The server's weights; its own.
    """

    pushes: int
    time: float
    vector: Float32Vector


class UnevenWorkers:
    """A server and its workers, which begin at the same moment with the same weights.

    Args:
        task: What is trained, among as many workers as there are lengths.
        run: How.

    Raises:
        ValueError: The policy collects the pushes of an iteration.
    """

    def __init__(self, task: Task, run: UnevenRun) -> None:
        self._task, self._run = task, run
        self._policy = make_policy(run.policy, PolicySettings(staleness=run.staleness))
        if self._policy.collects:
            raise ValueError(f"pushes are applied as they come, not as under {run.policy}")
        count = len(run.step_lengths)
        settings = ParameterServerSettings(
            rule=run.rule, optimizer="sgd", optimizer_settings=OptimizerSettings(run.learning_rate)
        )
        self._rate = 1.0 / count
        self._vector = task.initial.copy()
        self._shards = shards_of(self._vector, settings, collects=False)
        self._random = np.random.default_rng([run.seed, count])
        self._names = [f"worker{place + 1}" for place in range(count)]
        self._clocks = [self._policy.join(name, 0.0) for name in self._names]
        self._pulled = [self._vector.copy() for _ in range(count)]
        self._bases = [0] * count
        self.staleness: list[int] = []
        self.waited = [0.0] * count
        """Time that each worker has stood still until it was admitted."""

    def train(self) -> Iterator[Moment]:
        """Take steps for ever.

        Raises:
            DivergedError: A loss is not finite.
        """
        ends = [(self._length(place), place) for place in range(len(self._names))]
        heapq.heapify(ends)
        waiting: dict[int, float] = {}
        pushes = 0
        while True:
            now, place = heapq.heappop(ends)
            self._push(place, pushes, now)
            pushes += 1
            waiting[place] = now
            for other, since in list(waiting.items()):
                if self._policy.admits(self._names[other]):
                    del waiting[other]
                    self.waited[other] += now - since
                    self._pulled[other][:] = self._vector
                    self._bases[other] = pushes
                    heapq.heappush(ends, (now + self._length(other), other))
            yield Moment(pushes, now, self._vector)

    def _push(self, place: int, version: int, now: float) -> None:
        task, name, batches = self._task, self._names[place], self._task.batches[place]
        inputs, labels = batches.batch(self._clocks[place])
        task.weights.assign(self._pulled[place])
        loss = float(task.gradient(inputs, labels))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss of push {version + 1} is not finite", "lower the learning rate")
        late = version - self._bases[place]
        self.staleness.append(late)
        for number, shard in enumerate(self._shards):
            values = task.gradient.vector[number * SHARD_ELEMENTS : (number + 1) * SHARD_ELEMENTS]
            shard.take(Update(name, self._clocks[place], late, 0, None, values, len(labels)), self._rate)
        self._policy.push(name, self._clocks[place], loss, now)
        self._clocks[place] += 1

    def _length(self, place: int) -> float:
        return self._run.step_lengths[place] * float(self._random.lognormal(0.0, JITTER))


def uneven_case(name: str, title: str, run: UnevenRun, minutes: float) -> Case:
    """A case that trains once; its figures are those of `train`."""
    return Case(name, title, asdict(run), lambda desk: train(desk, run), minutes, lambda: data.missing(run.data))


def train(desk: Desk, run: UnevenRun) -> Figures:
    """Train to the end.

    Returns:
        The last `accuracy`; `looks`: columns `samples`, `time` and `accuracy`; the whole `time`; `staleness`, versions
        by which a push was late, the mean; `idle`, the share of each worker's time in which it waited for others.

    Raises:
        DataUnavailable: The data cannot be loaded.
        DivergedError: A loss is not finite.
    """
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    from experiments.logical_workers import Task

    desk.say(0.0, "building")
    workers = len(run.step_lengths)
    task = Task(data.source(run.data, desk.folder), run.model, run.width, workers, run.batch, run.seed)
    crew = UnevenWorkers(task, run)
    looks: dict[str, list[float]] = {"samples": [], "time": [], "accuracy": []}
    for moment in crew.train():
        if moment.pushes % run.look_every == 0 or moment.pushes == run.pushes:
            accuracy, _ = task.look(moment.vector, run.samples)
            looks["samples"].append(moment.pushes * run.batch)
            looks["time"].append(round(moment.time, 3))
            looks["accuracy"].append(round(accuracy, 5))
            desk.say(moment.pushes / run.pushes, f"push {moment.pushes} of {run.pushes}, accuracy {accuracy:.4f}")
        if moment.pushes == run.pushes:
            break
    time = looks["time"][-1]
    return {
        "accuracy": looks["accuracy"][-1],
        "looks": looks,
        "time": time,
        "staleness": float(np.mean(crew.staleness)),
        "idle": [waited / time for waited in crew.waited],
    }
