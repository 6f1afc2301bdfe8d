"""Rows of the family `push`: what a push costs a parameter server that has many workers, against one that has one.

The server is the process that `p2pdl` starts. Its workers are connections of this process, which push and never pull:
the same hundredth of a shard again and again, encoded once. Each pushes in its turn, and as many pushes are under way
at one time whatever the number of workers, so that the server always has one to take; under `bsp` and `ssp` no more
than the policy admits.
"""

from __future__ import annotations

import random
import tracemalloc
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import xxhash
import zmq

from experiments.ports import free_ports
from p2pdl.errors import PeerTimeout, ProtocolError
from p2pdl.node.children import Lifeline
from p2pdl.node.listening import Listener
from p2pdl.protocol.messages import Envelope, InitialRequest, JoinRequest, PushRequest, Request, WorkerReply
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.server.parameter_process import ParameterProcessSettings
from p2pdl.sparsifier import Selection, SelectionCoding
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.synchronisation import PolicySettings
from p2pdl.synchronisation.window import SlidingWindow
from p2pdl.transport.contract import Frames
from p2pdl.wire import decode, encode
from tools.benchmarks.accounting import processor_seconds
from tools.benchmarks.measurement import Details, Effort, Found, Row, Target, alternate, seconds_of

CLUSTER, SERVER = "bench", "server"
STALENESS = 3
POLICIES = ("asp", "ssp", "bsp")
FEWEST, MOST, BETWEEN = 1, 64, (4, 16)
WINDOW_WORKERS = 1000
PUSHES, WINDOW_ROUNDS = 1024, 100
FLYING = 16
"""Pushes under way at one time, of all workers together."""

KEPT = SHARD_ELEMENTS // 100
PATIENCE_MS = 10_000
LEASE_SECONDS = 3600.0

LAYOUT = WeightSpec.layout([("weights", (SHARD_ELEMENTS,), "float32", True)])


class Workplace:
    """A parameter server's process and its workers, ended with the context.

    Args:
        policy: Of the server.
        workers: How many.

    Attributes:
        process: The server's id.
    """

    def __init__(self, policy: str, workers: int) -> None:
        self._address = f"127.0.0.1:{free_ports(1)[0]}"
        self._ids = count(1)
        # A worker alone is never ahead of anybody.
        admitted = {"asp": FLYING, "ssp": STALENESS, "bsp": 1}[policy] if workers > 1 else FLYING
        self._window = min(FLYING, admitted * workers)
        self._drains = policy == "bsp" and workers > 1
        with ExitStack() as stack:
            self.process = self._start(policy, workers, stack)
            context = stack.enter_context(zmq.Context())
            self._sockets = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(workers)]
            self._begin()
            self._stack = stack.pop_all()

    def __enter__(self) -> Workplace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def push(self, pushes: int) -> None:
        """Push so often, all workers together.

        Raises:
            ProtocolError: The server has refused a push.
            PeerTimeout: It does not answer.
        """
        flying: deque[int] = deque()
        for number in range(max(1, pushes // len(self._sockets)) * len(self._sockets)):
            worker = number % len(self._sockets)
            if self._drains and worker == 0:
                while flying:
                    self._receive(flying.popleft())
            if len(flying) == self._window:
                self._receive(flying.popleft())
            request = PushRequest(
                incarnation=self._incarnation,
                clock=self._clocks[worker],
                base=1,
                shard=0,
                last=True,
                digest=self._digest,
                loss=1.0,
                samples=1,
            )
            self._send(worker, request, [self._frame])
            self._clocks[worker] += 1
            flying.append(worker)
        while flying:
            self._receive(flying.popleft())

    def _start(self, policy: str, workers: int, stack: ExitStack) -> int:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="p2pdl-bench-")))
        lifeline = Lifeline()
        stack.callback(lifeline.close)
        settings = ParameterServerSettings(
            policy,
            PolicySettings(staleness=STALENESS),
            optimizer="sgd",
            lease=LEASE_SECONDS,
            expected=workers,
        )

        def argument(ready: int) -> str:
            return ParameterProcessSettings(
                CLUSTER,
                SERVER,
                self._address,
                str(folder),
                lifeline.reading,
                ready,
                asdict(settings),
                checkpoint_every=0.0,
            ).to_argument()

        module = "p2pdl.server.parameter_process"
        process = Listener(module, argument, [lifeline.reading], "the parameter server", self._address).ready()
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return process.pid

    def _begin(self) -> None:
        """Let all workers join, of whom the first gives the weights, and encode what they push."""
        values = np.random.default_rng(0).standard_normal(SHARD_ELEMENTS, np.float32)
        for socket in self._sockets:
            socket.linger = 0
            socket.rcvtimeo = PATIENCE_MS
            socket.connect(f"tcp://{self._address}")
        joined = [
            self._ask(worker, JoinRequest(LAYOUT.digest), "\n".join(LAYOUT.rows()).encode())
            for worker in range(len(self._sockets))
        ]
        frame = values.tobytes()
        self._ask(0, InitialRequest(0, xxhash.xxh3_64_intdigest(frame)), frame)
        self._incarnation = joined[0].incarnation
        self._clocks = [reply.clock for reply in joined]
        places = np.sort(np.random.default_rng(1).choice(SHARD_ELEMENTS, KEPT, replace=False))
        [(_, payload)] = SelectionCoding(LAYOUT).encode(Selection(places, 1e-6 * values[places]))
        self._frame = payload.tobytes()
        self._digest = xxhash.xxh3_64_intdigest(self._frame)

    def _ask(self, worker: int, request: Request, frame: bytes) -> WorkerReply:
        self._send(worker, request, [frame])
        return self._receive(worker)

    def _send(self, worker: int, request: Request, payload: Frames) -> None:
        header = encode(Envelope(next(self._ids), CLUSTER, f"worker{worker}", request))
        self._sockets[worker].send_multipart([b"", header, *payload])

    def _receive(self, worker: int) -> WorkerReply:
        try:
            _, header, *_ = self._sockets[worker].recv_multipart()
        except zmq.Again:
            raise PeerTimeout(f"{self._address}: no answer within {PATIENCE_MS} ms") from None
        reply = decode(header).message
        if not isinstance(reply, WorkerReply):
            raise ProtocolError(f"the server has answered a worker with {reply}")
        return reply


def measure(effort: Effort, policy: str, cost: Callable[[Workplace, int], float]) -> Found:
    """Measure microseconds of a push.

    Args:
        effort: How much.
        policy: Of the servers.
        cost: Lets the workers push so often; the seconds that this took.
    """
    pushes = effort.times(PUSHES)
    with ExitStack() as stack:
        places = {
            workers: stack.enter_context(Workplace(policy, workers))
            for workers in (MOST, FEWEST, *(() if effort.trial else BETWEEN))
        }

        def of(workers: int) -> Callable[[], float]:
            done = max(1, pushes // workers) * workers
            return lambda: 1e6 * cost(places[workers], pushes) / done

        pairs = alternate(effort.repeats, of(MOST), of(FEWEST))
        ratios = {
            workers: median(many / one for many, one in alternate(effort.repeats, of(workers), of(FEWEST)))
            for workers in places
            if workers in BETWEEN
        }
    details: Details = {f"ratio_with_{workers}": ratio for workers, ratio in ratios.items()}
    note = ", ".join(f"{ratio:.2f} with {workers} workers" for workers, ratio in ratios.items())
    return Found(pairs, {**details, "pushes": pushes, "bytes": KEPT * 4}, note)


def processor_cost(place: Workplace, pushes: int) -> float:
    """Seconds of a processor that the server takes."""
    before = processor_seconds(place.process)
    place.push(pushes)
    return processor_seconds(place.process) - before


def wall_cost(place: Workplace, pushes: int) -> float:
    """Seconds until the last reply has come."""
    return seconds_of(lambda: place.push(pushes))


def measure_window(effort: Effort, length: int | None) -> Found:
    """Measure the bytes of a sliding window.

    Args:
        effort: How much.
        length: Of the window; None for one without.
    """
    rounds = effort.times(WINDOW_ROUNDS)
    sizes = {workers: window_nbytes(length, workers, rounds) for workers in (FEWEST, *BETWEEN, MOST, WINDOW_WORKERS)}
    pairs = [(float(sizes[MOST]), float(sizes[FEWEST]))] * effort.repeats
    note = ", ".join(f"{sizes[workers]} B with {workers}" for workers in (*BETWEEN, WINDOW_WORKERS))
    return Found(pairs, {f"bytes_with_{workers}": nbytes for workers, nbytes in sizes.items()}, note)


def window_nbytes(length: int | None, workers: int, rounds: int) -> int:
    """What a window takes after so many iterations of each worker, in an order drawn by chance.

    Args:
        length: Of the window; None for one without.
        workers: How many.
        rounds: Iterations.
    """
    chance = random.Random(0)
    # As an array, so that no numbers of the caller's own are counted.
    clocks = array("q", bytes(8 * workers))
    tracemalloc.start()
    try:
        window = SlidingWindow(length)
        for _ in range(workers):
            window.join()
        for _ in range(rounds * workers):
            worker = chance.randrange(workers)
            if window.admits(clocks[worker]):
                window.push(clocks[worker])
                clocks[worker] += 1
        nbytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return nbytes


CLOCKS = {
    "": ("processor time of a parameter server", processor_cost),
    "-wall": ("time", wall_cost),
}

ROWS = tuple(
    Row(
        f"push-{policy}{suffix}",
        f"{what} for each push of {MOST} workers under {policy}",
        f"the same with {FEWEST} worker",
        "us",
        partial(measure, policy=policy, cost=cost),
        Target("<=", 1.3),
    )
    for suffix, (what, cost) in CLOCKS.items()
    for policy in POLICIES
) + tuple(
    Row(
        f"push-window-{policy}",
        f"memory of the sliding window of {policy} with {MOST} workers",
        f"the same with {FEWEST} worker",
        "B",
        partial(measure_window, length=length),
        Target("<=", 1.3),
    )
    for policy, length in (("asp", None), ("ssp", STALENESS + 1), ("bsp", 1))
)
