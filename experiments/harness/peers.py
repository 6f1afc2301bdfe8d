"""One run of a TensorFlow strategy on hosts of chosen links, as a case."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures
from experiments.harness.figures import step_figures
from experiments.harness.hosts import Hosts
from experiments.harness.trained import trained_case
from experiments.peers import clusters, records
from experiments.peers.figures import PARAMETER_SERVER
from experiments.peers.work import Work
from p2pdl.types import JsonObject

LIMIT_SECONDS = 6 * 3600.0
SAY_SECONDS = 1.0
SERVER = "ps0"
"""The host of the parameter server."""


@dataclass(frozen=True)
class Peer:
    """What is run.

    Attributes:
        data: What is trained on, see `experiments.harness.data`.
        model: A built-in model.
        steps: Of each worker.
        batch: Samples of a step.
        width: Factor on the model's width.
        workers: How many train.
        strategy: `parameter-server` or `mirrored`.
        form: How a parameter server's step is written.
        links: Mbit/s of some hosts, see `Hosts`; the hosts are chief0, ps0, worker0, ... None for the loopback.
        learning_rate: Of SGD with momentum; a parameter server's is divided among the workers.
        momentum: Of SGD.
        seed: Of weights, parts and order.
    """

    data: str
    model: str
    steps: int
    batch: int
    width: float = 1.0
    workers: int = 4
    strategy: str = PARAMETER_SERVER
    form: str = "keras"
    links: Mapping[str, float] | None = None
    learning_rate: float = 0.05
    momentum: float = 0.9
    seed: int = 0


def peer_case(name: str, title: str, peer: Peer, minutes: float) -> Case:
    """A case that runs a strategy once; its figures are `accuracy`, `step`, `steps_per_second` and `bytes_per_step`."""
    return trained_case(name, title, peer, train, minutes)


def train(desk: Desk, peer: Peer) -> Figures:
    """Run a strategy to its end.

    Raises:
        DataUnavailable: The data cannot be loaded.
        StartupError: There are no such links here.
        ProcessDied: A task has failed.
    """
    # It takes a while, and lists of experiments do without.
    from p2pdl.training.data.registry import load

    dataset = load(data.source(peer.data, desk.folder), desk.folder)
    samples = records.write(dataset, desk.folder, peer.workers, peer.seed)
    is_server = peer.strategy == PARAMETER_SERVER
    work = Work(
        folder=str(desk.folder),
        model=peer.model,
        width=peer.width,
        input_shape=dataset.input_shape,
        dtype=dataset.x_train.dtype.name,
        classes=dataset.classes,
        samples=samples,
        workers=peer.workers,
        batch=peer.batch,
        steps=peer.steps,
        learning_rate=peer.learning_rate / (peer.workers if is_server else 1),
        momentum=peer.momentum,
        seed=peer.seed,
    )
    with Hosts(clusters.host_names(peer.strategy, peer.workers), peer.links) as hosts:
        desk.note(**hosts.facts(desk.say, measured=not desk.is_smoke))
        said_at = time.monotonic()

        def say() -> None:
            nonlocal said_at
            if time.monotonic() >= said_at + SAY_SECONDS:
                said_at = time.monotonic()
                desk.say(None, "training")

        found = clusters.train(peer.strategy, work, desk.folder, LIMIT_SECONDS, peer.form, hosts, say)
    for path in (*desk.folder.glob("part*"), *desk.folder.glob("*.npz")):
        path.unlink()
    return _figures(found)


def _figures(found: JsonObject) -> Figures:
    kept = {name: found[name] for name in ("accuracy", "steps", "steps_per_second", "bytes_per_step")}
    return {**kept, "step": step_figures(found["step_seconds"])}
