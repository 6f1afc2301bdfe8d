"""One run of workers that take turns in this process, as a case: real gradients and messages, and exact bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures
from experiments.harness.trained import trained_case
from p2pdl.node.children import trainer_environment
from p2pdl.types import JsonObject


@dataclass(frozen=True)
class CrewRun:
    """What is run, see `experiments.logical_workers`.

    Attributes:
        system: Fields of a `System`.
        data: What is trained on, see `experiments.harness.data`.
        model: A built-in model.
        width: Factor on its width.
        workers: How many take turns.
        batch: Samples of a push.
        pushes: Of all workers.
        look_every: Pushes between two evaluations of the server's weights.
        samples: Test samples of each.
        dead: Workers that die in mid-run, one after another in its middle half.
        seed: Of weights, parts, order and chance.
    """

    system: JsonObject
    data: str
    model: str
    width: float
    workers: int
    batch: int
    pushes: int
    look_every: int
    samples: int = 10_000
    dead: int = 0
    seed: int = 0

    @property
    def deaths(self) -> dict[int, int]:
        """After how many pushes which worker dies, by its place."""
        return {place: self.pushes * (2 * place + self.dead + 1) // (4 * self.dead) for place in range(self.dead)}


@dataclass(frozen=True)
class Progress:
    """How the accuracy of a crew has grown.

    Attributes:
        pushes: Of all workers, at each look.
        ingress: Bytes that the server has received by then.
        accuracy: Test accuracy of the server's weights.
        loss: Mean loss of the batches since the look before.
    """

    pushes: list[int] = field(default_factory=list)
    ingress: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def ingress_to(self, wanted: float) -> int | None:
        """Bytes by the first look that has reached an accuracy; None if none has."""
        return next(
            (nbytes for nbytes, found in zip(self.ingress, self.accuracy, strict=True) if found >= wanted), None
        )


def crew_case(name: str, title: str, run: CrewRun, minutes: float) -> Case:
    """A case that runs a crew once; its figures are those of `train`."""
    return trained_case(name, title, run, train, minutes)


def train(desk: Desk, run: CrewRun) -> Figures:
    """Train to the end.

    Args:
        desk: Is told how far it is.
        run: What to run.

    Returns:
        `looks`: the fields of a `Progress`; the last `accuracy`; `ingress` bytes and `dense_bytes`, those of as many
        pushes of all entries in float32; `staleness`, the mean of all pushes; `given_up`, how many workers the server
        has given up.

    Raises:
        DataUnavailable: The data cannot be loaded.
        DivergedError: A loss is not finite.
    """
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    from experiments.logical_workers import Crew, System, Task

    desk.say(0.0, "building")
    task = Task(data.source(run.data, desk.folder), run.model, run.width, run.workers, run.batch, run.seed)
    crew = Crew(task, System(**run.system))
    progress = Progress()
    for look in crew.run(run.pushes, run.look_every, run.samples, run.deaths):
        progress.pushes.append(look.pushes)
        progress.ingress.append(look.ingress)
        progress.accuracy.append(round(look.accuracy, 5))
        progress.loss.append(round(look.train_loss, 5))
        desk.say(look.pushes / run.pushes, f"push {look.pushes} of {run.pushes}, accuracy {look.accuracy:.4f}")
    return {
        "looks": asdict(progress),
        "accuracy": progress.accuracy[-1],
        "ingress": progress.ingress[-1],
        "dense_bytes": run.pushes * task.spec.nbytes,
        "staleness": crew.staleness,
        "given_up": crew.given_up,
    }


def progress_of(found: Figures) -> Progress:
    """The looks of a case's figures."""
    return Progress(**found["looks"])


def best(runs: Sequence[Mapping[str, float]]) -> float | None:
    """The best accuracy of some runs that are done; None if none is."""
    return max((run["accuracy"] for run in runs), default=None)
