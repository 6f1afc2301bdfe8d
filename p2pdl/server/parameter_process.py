"""`python -m p2pdl.server.parameter_process SETTINGS`: the process of a parameter server, from start to summary."""

from __future__ import annotations

import json
import logging
import math
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from p2pdl.aggregation import OptimizerSettings
from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.checkpoint.saving import Saver
from p2pdl.clock import Clock, MonotonicClock
from p2pdl.errors import P2pdlError
from p2pdl.files import replace
from p2pdl.protocol.parameter_server import ParameterServer, ParameterServerSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.server.answer import Answerer
from p2pdl.server.backlog import Backlog
from p2pdl.server.limits import MemoryLimit
from p2pdl.server.parameter_view import ParameterView
from p2pdl.server.process import announce, begin
from p2pdl.synchronisation import PolicySettings
from p2pdl.transport.door import Door
from p2pdl.transport.zeromq import ZmqServer
from p2pdl.types import JsonObject
from p2pdl.wire import FRAME_LIMIT

POLL_SECONDS = 0.25

LAST_PULLS_SECONDS = 20.0
"""After the last worker has finished, and after each part of the final weights that one takes, how long the server
waits for the next."""

LAST_REPLY_SECONDS = 1.0
"""How long the last of them may take to travel."""

VECTORS = 12
"""Vectors of the model's size that the process may need beside those of its workers: weights, velocity, sums, digests,
versions that are being pulled, and a checkpoint's copies."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ParameterProcessSettings:
    """What the process is told on its command line.

    Attributes:
        cluster: The node's cluster.
        node: The node's name.
        bind: `host:port` to listen on.
        folder: The node's run folder.
        lifeline: File descriptor of a pipe that closes when the supervisor is gone.
        ready: File descriptor to write one line to: empty when listening, else what went wrong, as JSON.
        server: A `ParameterServerSettings` as JSON.
        keys: Path of the folder of the keys; empty to encrypt nothing and to let everybody in.
        steps: Steps that each worker is to do, for the status; 0 if that is not known.
        checkpoint_every: Seconds between checkpoints; 0 for none.
        checkpoint_keep: How many stay.
        resumes: True to go on from the newest checkpoint.
        limits: A `ServingLimits` as JSON.
    """

    cluster: str
    node: str
    bind: str
    folder: str
    lifeline: int
    ready: int
    server: JsonObject
    keys: str = ""
    steps: int = 0
    checkpoint_every: float = 30.0
    checkpoint_keep: int = 2
    resumes: bool = False
    limits: JsonObject | None = None

    def to_argument(self) -> str:
        """The settings as one command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> ParameterProcessSettings:
        """The settings out of the command line argument."""
        return cls(**json.loads(argument))


def parameter_server_settings(written: Mapping[str, Any]) -> ParameterServerSettings:
    """The settings of the core, as `asdict` wrote them."""
    return ParameterServerSettings(
        **{
            **written,
            "policy_settings": PolicySettings(**written["policy_settings"]),
            "optimizer_settings": OptimizerSettings(**written["optimizer_settings"]),
        }
    )


def run(settings: ParameterProcessSettings) -> int:
    """Serve until every worker has finished, or SIGTERM; returns the exit code."""
    folder = Path(settings.folder)
    is_stopping = begin(settings.lifeline, str(folder / "node.log"))
    clock = MonotonicClock()
    core = ParameterServer(parameter_server_settings(settings.server), secrets.token_hex(8))
    limits = ServingLimits(**(settings.limits or {}))
    try:
        keeper = Keeper(core, folder, settings, clock)
        door = Door.of(Path(settings.keys), settings.node) if settings.keys else None
        transport = ZmqServer(settings.bind, door, FRAME_LIMIT)
    except P2pdlError as error:
        announce(settings.ready, json.dumps([type(error).__name__, error.message, error.remedy]))
        return error.exit_code
    view = ParameterView(core, settings.steps)
    serving = Serving(settings.cluster, view, limits, None, b"", core)
    answerer = Answerer(settings.cluster, settings.node, serving, Backlog(limits.memory_nbytes // 2))
    limit = partial(MemoryLimit, limits.memory_nbytes, partial(_needed, core, serving))
    announce(settings.ready, "")
    serve(transport, answerer, core, view, keeper, limit, clock, is_stopping)
    keeper.close()
    keeper.write_summary("done" if core.is_done else "stopped", view)
    transport.close()
    return 0


def serve(
    transport: ZmqServer,
    answerer: Answerer,
    core: ParameterServer,
    view: ParameterView,
    keeper: Keeper,
    limit: Callable[[], MemoryLimit],
    clock: Clock,
    is_stopping: Callable[[], bool],
) -> None:
    """Answer workers until told to stop, or until all have finished and nobody asks for anything any more."""
    memory: MemoryLimit | None = None
    ends_at = math.inf
    while not is_stopping():
        now = clock.now()
        view.refusals["identity"] += transport.keep(now)
        core.expire(now)
        keeper.keep()
        if not core.is_done:
            ends_at = math.inf
        elif core.has_served_everybody:
            ends_at = min(ends_at, now + LAST_REPLY_SECONDS)
        else:
            ends_at = min(ends_at, now + LAST_PULLS_SECONDS)
        if now >= ends_at:
            return
        request = transport.receive(POLL_SECONDS)
        if request is None:
            continue
        if memory is not None:
            memory.adapt()
        elif core.layout() is not None:
            # Not before: how much a model takes is known when the first worker has told.
            memory = limit()
        answer = answerer(request.frames, clock.now(), request.asker)
        transport.reply(answer.frames)
        view.count(answer)
        if answer.payload_nbytes:
            ends_at = math.inf
        del answer


class Keeper:
    """Keeps what a parameter server must not lose: checkpoints, and the summary of the run.

    Args:
        core: The server.
        folder: The node's run folder.
        settings: How often, and whether to go on from the newest one.
        clock: Source of times.

    Raises:
        CheckpointError: The folder cannot be written, or the checkpoint cannot be used.
    """

    def __init__(self, core: ParameterServer, folder: Path, settings: ParameterProcessSettings, clock: Clock) -> None:
        self._core = core
        self._path = folder
        self._node = settings.node
        self._every = settings.checkpoint_every
        self._clock = clock
        self._folder = CheckpointFolder(folder / "checkpoints", settings.checkpoint_keep)
        self._saver = Saver(self._folder, clock)
        self._due = clock.now() + self._every
        self._saved = self._restored = 0
        self._started = clock.now()
        found = self._folder.newest() if settings.resumes else None
        if found is not None:
            core.restore(found.header, found.arrays)
            self._saved = self._restored = core.version
            log.info("going on from %s, version %d of the weights", found.path.name, core.version)

    def keep(self) -> None:
        """Begin to save, if it is time to; to be called again and again."""
        if not self._every or self._clock.now() < self._due or self._saver.is_busy:
            return
        self._due = self._clock.now() + self._every
        if self._core.version > self._saved:
            header, arrays = self._core.state()
            self._saved = self._core.version
            self._saver.save(self._core.version, header, arrays)

    def close(self) -> None:
        """Save what has not been saved, and end the thread."""
        # One that was begun may have failed, and the disk have room by now.
        self._saver.wait()
        saved = max(self._restored, self._saver.figures.step or 0)
        if self._every and self._core.version > saved:
            header, arrays = self._core.state()
            self._saver.save_now(self._core.version, header, arrays)
        self._saver.close()

    def write_summary(self, state: str, view: ParameterView) -> None:
        """Leave the summary of the run."""
        core = self._core
        summary: JsonObject = {
            "node": self._node,
            "role": "server",
            "strategy": "parameter-server",
            "policy": core.settings.policy,
            "state": state,
            "steps": core.version,
            "samples": core.samples,
            "seconds": self._clock.now() - self._started,
            "smoothed_loss": core.loss if core.loss == core.loss else None,
            "finished": sorted(core.finished),
            "dense_bytes": spec.nbytes if (spec := core.layout()) else None,
            **view.figures(),
        }
        try:
            replace(self._path / "summary.json", json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path / "summary.json", error.strerror)


def _needed(core: ParameterServer, serving: Serving) -> int:
    spec = core.layout()
    return serving.encoders.nbytes + (spec.nbytes * (VECTORS + 2 * len(core.workers)) if spec else 0)


if __name__ == "__main__":
    sys.exit(run(ParameterProcessSettings.from_argument(sys.argv[1])))
