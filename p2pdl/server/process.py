"""Life of the server process: bind, say so, answer until told to stop or until the supervisor is gone."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from p2pdl.clock import Clock, MonotonicClock
from p2pdl.errors import P2pdlError
from p2pdl.lifeline import end_with_parent, yield_to_training
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.server.answer import Answer, Answerer
from p2pdl.server.starvation import Starvation
from p2pdl.server.view import StoreView
from p2pdl.store.layout import Word
from p2pdl.store.reader import StoreReader
from p2pdl.transport.zeromq import ZmqServer

POLL_SECONDS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server process is told on its command line.

    Attributes:
        cluster: The node's cluster.
        node: The node's name.
        bind: `host:port` to listen on.
        store: File descriptor of the weight store.
        lifeline: File descriptor of a pipe that closes when the supervisor is gone.
        ready: File descriptor to write one line to: empty when listening, else what went wrong, as JSON.
        log: Path of the node's log file; empty for standard error only.
        uploads: Pulls served at one time.
        copies: Copies kept for pullers with a delta codec.
        copies_nbytes: Memory of these copies in all.
    """

    cluster: str
    node: str
    bind: str
    store: int
    lifeline: int
    ready: int
    log: str = ""
    uploads: int = ServingLimits.uploads
    copies: int = ServingLimits.copies
    copies_nbytes: int = ServingLimits.copies_nbytes

    def to_argument(self) -> str:
        """The settings as one command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> ServerSettings:
        """The settings out of the command line argument."""
        return cls(**json.loads(argument))


def run(settings: ServerSettings) -> int:
    """Serve until SIGTERM; returns the exit code."""
    end_with_parent(settings.lifeline)
    yield_to_training()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    _log_to(settings)
    try:
        transport = ZmqServer(settings.bind)
    except P2pdlError as error:
        _say_ready(settings.ready, json.dumps([type(error).__name__, error.message, error.remedy]))
        return error.exit_code
    store = StoreReader(settings.store)
    store.take_over()
    view = StoreView(store)
    limits = ServingLimits(settings.uploads, settings.copies, settings.copies_nbytes)
    serving = Serving(settings.cluster, view, limits)
    answerer = Answerer(settings.cluster, settings.node, serving)
    _say_ready(settings.ready, "")
    serve(transport, answerer, store, view, MonotonicClock(), lambda: stopping)
    transport.close()
    return 0


def serve(
    transport: ZmqServer,
    answerer: Answerer,
    store: StoreReader,
    view: StoreView,
    clock: Clock,
    is_stopping: Callable[[], bool],
) -> None:
    """Answer requests until told to stop.

    Args:
        transport: Where they come from.
        answerer: What to answer.
        store: Counts what is sent, and says when readers that do not read hold all of its leases.
        view: Counts refusals.
        clock: Source of times.
        is_stopping: Asked after every request, and several times a second.
    """
    starvation = Starvation()
    while not is_stopping():
        # Before a request is taken, never after: a new socket has no request to answer.
        if starvation.is_over_long(store.is_starved, clock.now()):
            log.warning("readers that do not read hold every version that may be in use; dropping all connections")
            transport.reset()
        frames = transport.receive(POLL_SECONDS)
        if frames is not None:
            answer = answerer(frames, clock.now())
            transport.reply(answer.frames)
            _count(answer, store, view)
            # Its frames belong to the socket from now on: that nobody refers to them any more means that they are sent.
            del answer


def _count(answer: Answer, store: StoreReader, view: StoreView) -> None:
    store.count(Word.REQUESTS)
    store.count(Word.BYTES_SENT, answer.nbytes)
    store.count(Word.PAYLOAD_SENT, answer.payload_nbytes)
    if answer.refused and answer.refused != "no-lease":
        store.count(Word.REFUSALS)
        view.refusals[answer.refused] += 1


def _log_to(settings: ServerSettings) -> None:
    handler = logging.FileHandler(Path(settings.log)) if settings.log else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s server  %(levelname)-7s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def _say_ready(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)
