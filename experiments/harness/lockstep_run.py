"""One run of real models in lock-step in this process, as a case: the same seed gives the same figures, bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures
from experiments.harness.trained import trained_case
from p2pdl.config import Configuration, load
from p2pdl.node.children import trainer_environment
from p2pdl.node.exchange_cost import codec_name
from p2pdl.types import JsonObject

if TYPE_CHECKING:
    from experiments.lockstep import LocalModel, Look

ALONE = "single"
"""The strategy of nodes that never exchange."""


@dataclass(frozen=True)
class LockstepRun:
    """What is run: what nodes with this configuration do, if they are equally fast and a pull fits into a step.

    Attributes:
        sections: The configuration without `cluster`, `nodes` and `data.source`. Of `gossip`, `topology`, `merge` and
            `exchange_every` count.
        data: What is trained on, see `experiments.harness.data`.
        nodes: How many train; one for `strategy: single` of one machine.
        look_every: Steps between two evaluations of the consensus.
        samples: Test samples of an evaluation.
    """

    sections: JsonObject
    data: str
    nodes: int = 4
    look_every: int = 100
    samples: int = 10_000


def lockstep_case(name: str, title: str, run: LockstepRun, minutes: float) -> Case:
    """A case that trains once; its figures are those of `train`."""
    return trained_case(name, title, run, train, minutes)


def train(desk: Desk, run: LockstepRun) -> Figures:
    """Train to the end.

    Args:
        desk: Is told how far it is.
        run: What to run.

    Returns:
        `accuracy` of the consensus, or of nodes that never exchange the median; `nodes`: each one's own accuracy;
        `steps` of each; `nbytes` that a node has received, the mean; `kept`: share of the gradient's entries that the
        mask has kept in the last step, the nodes' mean, None without a mask; `looks`: columns of `step`, `nbytes`,
        `accuracy`, `loss` and `distance` of the consensus.

    Raises:
        DataUnavailable: The data cannot be loaded.
        DivergedError: A loss is not finite.
    """
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    from experiments.lockstep import LocalModel
    from p2pdl.node.training_settings import preparation_settings
    from p2pdl.training.preparation import Preparation

    desk.say(0.0, "building")
    configuration = _configuration(run, desk.folder)
    parts = [Preparation(preparation_settings(configuration, name)) for name in configuration.names]
    # Equal numbers of steps, so that all are done at the same moment.
    steps = min(part.steps for part in parts)
    models = [LocalModel(part) for part in parts]
    columns: dict[str, list[float]] = {name: [] for name in ("step", "nbytes", "accuracy", "loss", "distance")}
    looks = (
        _alone(models, steps, run) if configuration.strategy == ALONE else _together(models, steps, run, configuration)
    )
    own: list[float] = []
    for look, accuracies in looks:
        own = accuracies
        for name, column in columns.items():
            column.append(round(getattr(look, name), 7))
        desk.say(look.step / steps, f"step {look.step} of {steps}, accuracy {look.accuracy:.4f}")
    kept = [density for part in parts if (density := part.density()) is not None]
    return {
        "accuracy": columns["accuracy"][-1],
        "nodes": own,
        "steps": steps,
        "nbytes": columns["nbytes"][-1],
        "kept": float(np.mean(kept)) if kept else None,
        "looks": columns,
    }


def _together(
    models: list[LocalModel], steps: int, run: LockstepRun, configuration: Configuration
) -> Iterator[tuple[Look, list[float]]]:
    """The looks at nodes that exchange; the last one with each node's own accuracy."""
    from experiments.lockstep import LockStep

    gossip = configuration.gossip
    lock_step = LockStep(
        models,
        codec_name(configuration.compress),
        steps,
        gossip.exchange_every,
        gossip.topology,
        gossip.merge,
        configuration.train.seed,
    )
    for look in lock_step.run(run.look_every, run.samples):
        yield look, lock_step.accuracies(run.samples) if look.step == steps else []


def _alone(models: list[LocalModel], steps: int, run: LockstepRun) -> Iterator[tuple[Look, list[float]]]:
    """The same of nodes that never exchange."""
    from experiments.lockstep import Look

    vectors = [model.reset() for model in models]
    for first in range(0, steps, run.look_every):
        count = min(run.look_every, steps - first)
        vectors = [model.train(vector, first, count)[0] for model, vector in zip(models, vectors, strict=True)]
        tested = [model.test(vector, run.samples) for model, vector in zip(models, vectors, strict=True)]
        own = [one.accuracy for one in tested]
        apart = np.stack(vectors) - np.mean(vectors, axis=0, dtype=np.float64)
        distance = float(np.sqrt(np.mean(np.square(apart))))
        loss = float(np.median([one.loss for one in tested]))
        yield Look(first + count, 0.0, float(np.median(own)), loss, distance), own


def _configuration(run: LockstepRun, folder: Path) -> Configuration:
    """That of nodes that nobody starts."""
    nodes: list[dict[str, Any]] = [
        {"name": f"node{number + 1}", "address": f"127.0.0.1:{7101 + number}"} for number in range(run.nodes)
    ]
    sections = dict(run.sections)
    sections["data"] = {**sections.get("data", {}), "source": data.source(run.data, folder)}
    file = folder / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "lockstep"}, "nodes": nodes, **sections}))
    return load(file, ())
