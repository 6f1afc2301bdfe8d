"""A parameter server without a network, workers as plain calls, and a problem whose gradients anybody can compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xxhash

from p2pdl.aggregation import OptimizerSettings
from p2pdl.protocol.messages import (
    BeginRequest,
    InitialRequest,
    JoinRequest,
    LeaveRequest,
    PushRequest,
    Refusal,
    WorkerReply,
    WorkerRequest,
)
from p2pdl.protocol.parameter_server import ParameterServer
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.sparsifier import Selection, SelectionCoding
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, shards_in
from p2pdl.types import Float32Vector
from tests.protocol.nodes import MODEL

SMALL = WeightSpec.layout(
    [("kernel", (5, 4), "float32", True), ("mean", (3,), "float32", False), ("bias", (4,), "float32", True)]
)
"""One shard of 64 elements, with statistics between what is trained."""

SPECS = {"small": SMALL, "two shards": MODEL}
NAMES = ("ada", "bob", "cyd")
RATE, MOMENTUM = 0.1, 0.9


def settings_of(policy: str, **changes: object) -> ParameterServerSettings:
    """Settings with the optimizer of these tests."""
    optimizer = OptimizerSettings(RATE, MOMENTUM)
    return ParameterServerSettings(policy, optimizer_settings=optimizer, **changes)  # type: ignore[arg-type]


def trained(spec: WeightSpec) -> Float32Vector:
    """1 for every trained entry, 0 for padding and statistics."""
    mask = np.zeros(spec.size, np.float32)
    for variable in spec.variables:
        if variable.trainable:
            mask[variable.span] = 1.0
    return mask


def initial(spec: WeightSpec, seed: int = 0) -> Float32Vector:
    """Weights to begin with; statistics are not negative, as variances must not be."""
    vector = np.random.default_rng(seed).normal(size=spec.size).astype(np.float32)
    for span in spec.state_spans:
        np.abs(vector[span], out=vector[span])
    return vector


def gradient(spec: WeightSpec, weights: Float32Vector, batch: int) -> Float32Vector:
    """That of a quadratic of its own for each batch: curvature * (weights - target), zero where nothing is trained."""
    random = np.random.default_rng([7, batch])
    curvature = random.uniform(0.5, 1.5, spec.size).astype(np.float32)
    target = random.normal(size=spec.size).astype(np.float32)
    return trained(spec) * curvature * (weights - target)


def batch_of(worker: str, step: int) -> int:
    """Which batch a worker has at a step."""
    return 1000 * NAMES.index(worker) + step


class Workplace:
    """A server and its clock.

    Args:
        spec: The model's layout.
        settings: Of the server.
        incarnation: The server's life.

    Attributes:
        core: The server.
        now: The time; tests move it.
    """

    def __init__(self, spec: WeightSpec, settings: ParameterServerSettings, incarnation: str = "life") -> None:
        self.spec = spec
        self.settings = settings
        self.core = ParameterServer(settings, incarnation)
        self.coding = SelectionCoding(spec, settings.values)
        self.now = 100.0

    @property
    def weights(self) -> Float32Vector:
        """The weights as they are now, as a worker pulls them."""
        snapshot = self.core.load()
        assert snapshot is not None
        return snapshot.vector

    def ask(self, worker: str, request: WorkerRequest, frame: bytes | None = None) -> WorkerReply | Refusal:
        """What the server answers."""
        return self.core.on_request(request, worker, None if frame is None else memoryview(frame), self.now)

    def told(self, worker: str, request: WorkerRequest, frame: bytes | None = None) -> WorkerReply:
        """The same, where it is no refusal."""
        reply = self.ask(worker, request, frame)
        assert isinstance(reply, WorkerReply), reply
        return reply

    def join(self, worker: str) -> WorkerReply:
        """Let a worker take part."""
        return self.told(worker, JoinRequest(self.spec.digest), "\n".join(self.spec.rows()).encode())

    def begin(self, worker: str) -> WorkerReply:
        """Let a worker ask whether it may go on."""
        return self.told(worker, BeginRequest())

    def leave(self, worker: str, finished: bool = True) -> WorkerReply:
        """Let a worker go."""
        return self.told(worker, LeaveRequest(finished))

    def give(self, worker: str, vector: Float32Vector, shards: range | None = None) -> WorkerReply:
        """Send weights to begin with."""
        for number in shards or range(shards_in(vector.size)):
            frame = vector[number * SHARD_ELEMENTS : (number + 1) * SHARD_ELEMENTS].tobytes()
            reply = self.told(worker, InitialRequest(number, xxhash.xxh3_64_intdigest(frame)), frame)
        return reply

    def start(self, *workers: str) -> Float32Vector:
        """Let workers join, of whom the first sends the weights to begin with; returns these."""
        for worker in workers:
            self.join(worker)
        vector = initial(self.spec)
        assert self.give(workers[0], vector).version == 1
        for worker in workers:
            self.core.on_pulled(worker, range(shards_in(self.spec.size)), self.now)
        return vector

    def frames(
        self, worker: str, update: Float32Vector | Selection, loss: float | None = 0.5
    ) -> list[tuple[PushRequest, bytes]]:
        """The requests that an iteration is pushed with, and the frame of each."""
        selection = update if isinstance(update, Selection) else Selection(None, update)
        coded = [(number, payload.tobytes()) for number, payload in self.coding.encode(selection)] or [(0, b"")]
        clock = self.core.workers[worker].clock if worker in self.core.workers else 0
        return [
            (
                PushRequest(
                    self.core.incarnation,
                    clock,
                    self.core.version,
                    number,
                    place == len(coded) - 1,
                    False,
                    xxhash.xxh3_64_intdigest(frame),
                    loss,
                    32,
                ),
                frame,
            )
            for place, (number, frame) in enumerate(coded)
        ]

    def push(self, worker: str, update: Float32Vector | Selection, base: int | None = None) -> WorkerReply:
        """Push a whole iteration, and pull."""
        for request, frame in self.frames(worker, update):
            reply = self.told(worker, request if base is None else replace(request, base=base), frame)
        self.core.on_pulled(worker, range(shards_in(self.spec.size)), self.now)
        return reply

    def iterate(self, workers: tuple[str, ...], step: int) -> None:
        """Let every worker do one iteration from the weights as they are at its beginning."""
        weights, base = self.weights, self.core.version
        for worker in workers:
            assert self.begin(worker).admitted
            self.push(worker, gradient(self.spec, weights, batch_of(worker, step)), base)
        self.now += 0.1
