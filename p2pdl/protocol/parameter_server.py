"""A parameter server's state: who works for it, what they push, and what becomes of the weights.

Li et al., "Scaling Distributed Machine Learning with the Parameter Server", 2014: workers push updates and pull
weights by key range. Here a key is the number of a shard, and the shards of a push are applied as they come.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pdl.aggregation import Update
from p2pdl.errors import CheckpointMismatch, PeerError, PeerRefused, RejectedWeights
from p2pdl.protocol.messages import (
    REFUSALS,
    BeginRequest,
    InitialRequest,
    JoinRequest,
    LeaveRequest,
    PushRequest,
    Refusal,
    WorkerReply,
    WorkerRequest,
)
from p2pdl.protocol.server_state import Arrays, WeightShard, Worker, shards_of
from p2pdl.protocol.server_state import ParameterServerSettings as ParameterServerSettings
from p2pdl.protocol.serving import refusal
from p2pdl.protocol.worker_frames import checked_frame, initial_values, parsed_layout
from p2pdl.sparsifier import SelectionCoding
from p2pdl.spec import Snapshot, SnapshotInfo, WeightSpec, combine_digests, shard_digests
from p2pdl.synchronisation import Policy, make_policy
from p2pdl.types import Float32Vector, Indices, NodeId

LOSS_MEMORY = 0.98
"""What the mean of the workers' losses keeps at each push."""

WORKERS = 4096
"""Names that may take part at one time: they are the askers' own choice."""

NOTHING = np.empty(0, np.intp), np.empty(0, np.float32)
"""Indices and values of an update that changes nothing."""

MOST_SAMPLES = 2**63 - 1
"""What a message can say: how many a push counts for is its sender's claim."""


class ParameterServer:
    """Answers workers. A `VersionSource` of the weights; versions count pushes, or iterations where they are collected.

    Args:
        settings: How to work.
        incarnation: Random name of this life.

    Attributes:
        incarnation: The same.
        version: Counter of the weights; 0 while there are none.
        samples: Training samples behind them.
        loss: Smoothed training loss of the workers; NaN before the first push.
        finished: Workers that have done all their steps.
        workers: Those that take part now, by name.
        counters: What has come, by name.
    """

    def __init__(self, settings: ParameterServerSettings, incarnation: str) -> None:
        self._settings = settings
        self.incarnation = incarnation
        self.policy: Policy = make_policy(settings.policy, settings.policy_settings)
        self._spec: WeightSpec | None = None
        self._coding: SelectionCoding | None = None
        self._shards: list[WeightShard] = []
        self._vector: Float32Vector | None = None
        self._initial: set[int] = set()
        self._initial_from: NodeId | None = None
        self.version = 0
        self.samples = 0
        self.loss = float("nan")
        self.finished: set[NodeId] = set()
        self.workers: dict[NodeId, Worker] = {}
        self.counters = {"pushes": 0, "ingress_bytes": 0, "lapsed": 0, "staleness_sum": 0}
        self._published = 0.0
        self._complete_below = 0
        self._collected_from: dict[NodeId, set[int]] = {}
        self._missed: set[NodeId] = set()
        self._missed_until: float | None = None
        self._served: set[NodeId] = set()
        self._begins_at: float | None = None
        self._next_lapse = math.inf

    @property
    def settings(self) -> ParameterServerSettings:
        """How it works."""
        return self._settings

    @property
    def is_done(self) -> bool:
        """True once somebody has finished, nobody works any more, and nobody may yet come back after a restart."""
        return bool(self.finished) and not self.workers and not self._missed

    def layout(self) -> WeightSpec | None:
        """The model's layout; None before the first worker."""
        return self._spec

    def newest_version(self) -> int | None:
        """See `VersionSource.newest_version`."""
        return self.version or None

    def load(self) -> Snapshot | None:
        """A copy of the weights as they are: see `VersionSource.load`."""
        if self._vector is None or not self.version:
            return None
        vector = self._vector.copy()
        digests = shard_digests(vector)
        info = SnapshotInfo(
            self.version,
            self.version,
            self.samples,
            self.loss,
            self.is_done,
            combine_digests(digests),
            self._published,
        )
        return Snapshot(info, vector, digests)

    def on_request(
        self, request: WorkerRequest, worker: NodeId, payload: memoryview | None, now: float
    ) -> WorkerReply | Refusal:
        """Answer a worker.

        Args:
            request: What it says.
            worker: Its name.
            payload: The frame that came along; None without one.
            now: Seconds of a monotonic clock.
        """
        self.expire(now)
        if worker in self.workers:
            self.workers[worker].heard = now
        try:
            match request:
                case JoinRequest():
                    self._join(request, worker, payload, now)
                case LeaveRequest():
                    if request.finished:
                        self.finished.add(worker)
                    self._missed.discard(worker)
                    self._leave(worker, now)
                    return self._reply(None, worker, now)
                case _ if worker not in self.workers:
                    return refusal("not-joined")
                case InitialRequest():
                    self._take_initial(request, worker, payload, now)
                case PushRequest():
                    self._push(request, worker, payload, now)
                case BeginRequest():
                    pass
        except PeerError as error:
            return refusal(error.code if error.code in REFUSALS else "payload", error.message)
        return self._reply(self.workers[worker], worker, now)

    @property
    def has_served_everybody(self) -> bool:
        """True if all workers have finished, and each has begun to take the last of the final weights."""
        return self.is_done and self.finished <= self._served

    def on_pulled(self, worker: NodeId, shards: Collection[int], now: float) -> None:
        """Note that a worker gets these shards as they are now, and is there."""
        if self.is_done and len(self._shards) - 1 in shards:
            self._served.add(worker)
        if worker in self.workers:
            self.workers[worker].heard = now
            for number in shards:
                self._shards[number].rule.on_pull(worker)

    def expire(self, now: float) -> None:
        """Let those go that were not heard of for longer than the lease."""
        if self._missed:
            self._expire_missed(now)
        # Seldom, so that a push costs the same however many workers there are: nobody's lease ends before that.
        if now <= self._next_lapse:
            return
        for name in [name for name, it in self.workers.items() if now - it.heard > self._settings.lease]:
            self._leave(name, now)
            self.counters["lapsed"] += 1
        heard = min((it.heard for it in self.workers.values()), default=math.inf)
        self._next_lapse = heard + self._settings.lease

    def figures(self) -> dict[str, float]:
        """Numbers for the status, by name."""
        clocks = [worker.clock for worker in self.workers.values()] or [0]
        pushes = self.counters["pushes"]
        return {
            **self.counters,
            "staleness": self.counters["staleness_sum"] / pushes if pushes else 0.0,
            "clock_low": min(clocks),
            "clock_high": max(clocks),
            **{f"policy_{name}": value for name, value in self.policy.figures().items()},
        }

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What a checkpoint holds: a header, and arrays that are this object's own."""
        if self._spec is None or self._vector is None or not self.version:
            raise ValueError("there are no weights yet")
        header = {
            "spec": "\n".join(self._spec.rows()),
            "version": self.version,
            "samples": self.samples,
            "loss": self.loss if np.isfinite(self.loss) else None,
            "low": self.policy.low,
            "finished": sorted(self.finished),
            "workers": sorted({*self.workers, *self._missed}),
            "counters": dict(self.counters),
            "policy": self._settings.policy,
        }
        arrays: Arrays = {"weights": self._vector}
        for number, shard in enumerate(self._shards):
            arrays |= shard.state(number)
        return header, arrays

    def restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave, before anybody has joined; workers join again, at the lowest clock.

        Those that took part then are missed for as long as a lease: until then the run is not done without them.

        Raises:
            CheckpointMismatch: It was made with another update rule or optimizer.
        """
        self._take_layout(WeightSpec.parse(header["spec"]))
        assert self._vector is not None
        if arrays["weights"].shape != self._vector.shape:
            raise CheckpointMismatch("the checkpoint's weights are not of its own layout")
        self._vector[:] = arrays["weights"]
        for number, shard in enumerate(self._shards):
            shard.restore(number, arrays)
        self.version, self.samples = header["version"], header["samples"]
        self.loss = float("nan") if header["loss"] is None else header["loss"]
        self.finished, self._missed = set(header["finished"]), set(header["workers"])
        self.counters |= header["counters"]
        self._complete_below = header["low"]
        self.policy = make_policy(self._settings.policy, self._settings.policy_settings, header["low"])

    def _join(self, request: JoinRequest, worker: NodeId, payload: memoryview | None, now: float) -> None:
        if self._spec is None:
            self._take_layout(parsed_layout(payload, request.spec))
        assert self._spec is not None
        if request.spec != self._spec.digest:
            raise PeerRefused(f"the model's digest is {self._spec.digest} here and {request.spec} there", code="model")
        if worker not in self.workers and len(self.workers) >= WORKERS:
            raise PeerRefused(f"{WORKERS} workers take part already", code="busy")
        self.finished.discard(worker)
        # While it changes from one part to the next, the run is not done for want of workers.
        self._missed.add(worker)
        self._leave(worker, now)
        self._missed.discard(worker)
        if self._begins_at is None:
            self._begins_at = now + self._settings.start_wait
        clock = self.policy.join(worker, now)
        self.workers[worker] = Worker(clock, now, set(self._collected_from.get(worker, ())))
        self._next_lapse = min(self._next_lapse, now + self._settings.lease)

    def _take_layout(self, spec: WeightSpec) -> None:
        # All or nothing: memory may be too short for a stranger's layout.
        coding = SelectionCoding(spec, self._settings.values)
        vector = np.zeros(spec.size, np.float32)
        shards = shards_of(vector, self._settings, self.policy.collects)
        self._spec, self._coding, self._vector, self._shards = spec, coding, vector, shards

    def _expire_missed(self, now: float) -> None:
        if self._missed_until is None:
            self._missed_until = now + self._settings.lease
        if now <= self._missed_until:
            return
        for worker in self._missed:
            for shard in self._shards:
                shard.rule.forget(worker)
        self._missed.clear()

    def _leave(self, worker: NodeId, now: float) -> None:
        if self.workers.pop(worker, None) is None:
            return
        self.policy.leave(worker, now)
        for shard in self._shards:
            shard.rule.forget(worker)
        if self._initial_from == worker:
            self._initial_from = None
            self._initial.clear()
        # Others may have waited for this one only.
        self._complete(now)

    def _take_initial(self, request: InitialRequest, worker: NodeId, payload: memoryview | None, now: float) -> None:
        if self.version or worker != self._initial_from:
            return
        if not 0 <= request.shard < len(self._shards):
            raise RejectedWeights(f"there is no shard {request.shard}", code="payload")
        weights = self._shards[request.shard].weights
        weights[:] = initial_values(checked_frame(payload, request.digest), weights.nbytes)
        self._initial.add(request.shard)
        if len(self._initial) == len(self._shards):
            self.version, self._published = 1, now

    def _push(self, request: PushRequest, worker: NodeId, payload: memoryview | None, now: float) -> None:
        state = self.workers[worker]
        if not self.version:
            raise PeerRefused("there are no weights to move yet", code="not-ready")
        if request.incarnation != self.incarnation:
            raise PeerRefused("this server was started again since", code="not-joined")
        if request.clock == state.clock - 1:
            return  # sent again, because the reply to it was lost
        if request.clock != state.clock:
            raise PeerRefused(f"{worker} is at iteration {state.clock}, not {request.clock}", code="other-iteration")
        if not self.policy.admits(worker):
            raise PeerRefused(f"iteration {request.clock} is too far ahead of the others", code="outside-window")
        frame = checked_frame(payload, request.digest)
        if frame.nbytes and request.shard not in state.pushed:
            assert self._coding is not None
            self._take(request, worker, request.shard, *self._coding.decode(request.shard, frame))
        self.counters["ingress_bytes"] += frame.nbytes
        if not request.last:
            return
        if not request.partial:
            for number in range(len(self._shards)):
                if number not in state.pushed:
                    # Momentum, and the mean over the workers, are to know of an update that is zero.
                    self._take(request, worker, number, *NOTHING)
        self.policy.push(worker, request.clock, float("nan") if request.loss is None else request.loss, now)
        state.clock += 1
        state.pushed.clear()
        self.samples = min(self.samples + request.samples, MOST_SAMPLES)
        self.counters["pushes"] += 1
        self.counters["staleness_sum"] += max(0, self.version - request.base)
        if request.loss is not None:
            known = np.isfinite(self.loss)
            self.loss = LOSS_MEMORY * self.loss + (1.0 - LOSS_MEMORY) * request.loss if known else request.loss
        if not self.policy.collects:
            self.version, self._published = self.version + 1, now
        self._complete(now)

    def _take(
        self, request: PushRequest, worker: NodeId, number: int, indices: Indices | None, values: Float32Vector
    ) -> None:
        collects = self.policy.collects
        staleness = 0 if collects else max(0, self.version - request.base)
        update = Update(worker, request.clock, staleness, 0, indices, values, request.samples)
        self._shards[number].take(update, self._rate())
        self.workers[worker].pushed.add(number)
        if collects:
            # Kept beyond its leaving: who joins again within the iteration must not count twice.
            self._collected_from.setdefault(worker, set()).add(number)

    def _rate(self) -> float:
        if self._settings.rate is not None:
            return self._settings.rate
        # Who has finished still counts: otherwise the last steps of the slowest would weigh as much as all before.
        # So does who was there before a restart: the first to come back is not to move the weights for all.
        return 1.0 / max(1, len(self.workers.keys() | self.finished | self._missed))

    def _complete(self, now: float) -> None:
        """Apply what was collected of an iteration that nobody is at any more, or that nobody will go on with."""
        if not self.policy.collects or not (self.policy.low > self._complete_below or self.is_done):
            return
        self._complete_below = self.policy.low
        self._collected_from.clear()
        rate = self._settings.rate or 1.0
        # All of them: a list, since `any` would stop at the first.
        if any([shard.complete(rate) for shard in self._shards]):
            self.version, self._published = self.version + 1, now

    def _has_begun(self, now: float) -> bool:
        if not self.version or self._begins_at is None:
            return False
        if self._missed and self.policy.staleness_bound is not None:
            # Who comes back after a restart is slower than nobody: it counts as waited for until its lease is over.
            return False
        if self.version == 1 and len(self.workers) < self._settings.expected:
            return now >= self._begins_at
        self._begins_at = now
        return True

    def _reply(self, state: Worker | None, worker: NodeId, now: float) -> WorkerReply:
        clock, admitted, commit_in = 0, False, None
        if state is not None:
            clock = state.clock
            admitted = self._has_begun(now) and self.policy.admits(worker)
            commit_in = self.policy.commit_in(worker, now)
            if not self.version and self._initial_from is None:
                self._initial_from = worker
        return WorkerReply(
            self.incarnation,
            clock,
            self.version,
            admitted,
            not self.version and self._initial_from == worker,
            commit_in,
            len(self.workers),
        )
