"""Life of the server process: bind, say so, answer until told to stop or until the supervisor is gone."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from p2pdl.clock import Clock, MonotonicClock
from p2pdl.errors import P2pdlError
from p2pdl.lifeline import end_with_parent, yield_to_training
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.server.answer import Answer, Answerer
from p2pdl.server.backlog import Backlog
from p2pdl.server.limits import MemoryLimit, raise_descriptor_limit
from p2pdl.server.members import MembershipHost, start_membership
from p2pdl.server.start import MembershipStart
from p2pdl.server.starvation import HOARDED_SECONDS, Starvation
from p2pdl.server.view import StoreView
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW, Word
from p2pdl.store.reader import StoreReader
from p2pdl.store.view import MemberView
from p2pdl.transport.door import Door
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from p2pdl.types import JsonObject

POLL_SECONDS = 0.25

LOOK_SECONDS = 0.01
"""How long replies about members may wait while requests keep coming."""

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
        members: A `MembershipStart` as JSON; None for a server that knows nobody.
        shared_settings: Path of the JSON that a node which joins is told; empty if there is none.
        keys: Path of the folder of the keys; empty to encrypt nothing and to let everybody in.
        memory_nbytes: Memory that peers may make the process take beside its copies.
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
    members: JsonObject | None = None
    shared_settings: str = ""
    keys: str = ""
    memory_nbytes: int = ServingLimits.memory_nbytes

    def to_argument(self) -> str:
        """The settings as one command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> ServerSettings:
        """The settings out of the command line argument."""
        return cls(**json.loads(argument))


def run(settings: ServerSettings) -> int:
    """Serve until SIGTERM; returns the exit code."""
    is_stopping = begin(settings.lifeline, settings.log)
    yield_to_training()
    try:
        door = Door.of(Path(settings.keys), settings.node) if settings.keys else None
        transport = ZmqServer(settings.bind, door)
    except P2pdlError as error:
        announce(settings.ready, json.dumps([type(error).__name__, error.message, error.remedy]))
        return error.exit_code
    store = StoreReader(settings.store)
    store.take_over()
    view = StoreView(store, settings.node)
    limits = ServingLimits(settings.uploads, settings.copies, settings.copies_nbytes)
    clock = MonotonicClock()
    client = ZmqClient(identity=door.identity, server_key=partial(key_at, door, view)) if door else ZmqClient()
    members = None
    if settings.members is not None:
        start = MembershipStart(**settings.members)
        block = Block(settings.store, VIEW)
        core = start_membership(start, settings.node, MemberView(block).members.values(), clock.now(), door)
        members = MembershipHost(core, client, settings.cluster, settings.node, block, start)
        view.known, view.member_counters = core.known, core.counters
    shared = Path(settings.shared_settings).read_bytes() if settings.shared_settings else b""
    serving = Serving(settings.cluster, view, limits, members, shared)
    answerer = Answerer(settings.cluster, settings.node, serving, Backlog(settings.memory_nbytes // 2))
    memory = MemoryLimit(settings.memory_nbytes, partial(_needed, serving, view))
    announce(settings.ready, "")
    serve(transport, answerer, store, view, clock, is_stopping, client, members, memory)
    if members is not None:
        members.leave(clock)
    client.close()
    transport.close()
    return 0


def serve(
    transport: ZmqServer,
    answerer: Answerer,
    store: StoreReader,
    view: StoreView,
    clock: Clock,
    is_stopping: Callable[[], bool],
    client: ZmqClient | None = None,
    members: MembershipHost | None = None,
    memory: MemoryLimit | None = None,
) -> None:
    """Answer requests, and keep in touch with the other members, until told to stop.

    Args:
        transport: Where they come from.
        answerer: What to answer.
        store: Counts what is sent, and says when readers that do not read hold all of its leases.
        view: Counts refusals.
        clock: Source of times.
        is_stopping: Asked after every request, and several times a second.
        client: The members' connections.
        members: Whom this node knows; None to know nobody.
        memory: Grows with what the node needs; None for a process that does not limit itself.
    """
    starvation, hoarding = Starvation(), Starvation(HOARDED_SECONDS)
    is_idle, look_at = True, 0.0
    while not is_stopping():
        # Before a request is taken, never after: a new socket has no request to answer.
        if starvation.is_over_long(store.is_starved, clock.now()):
            log.warning("readers that do not read hold every version that may be in use; dropping all connections")
            transport.reset()
        if hoarding.is_over_long(answerer.backlog.is_full, clock.now()):
            log.warning("readers that do not read hold the memory of all encoded replies; dropping all connections")
            transport.reset()
        if turned_away := transport.keep(clock.now()):
            store.count(Word.REFUSALS, turned_away)
            view.refusals["identity"] += turned_away
        patience = POLL_SECONDS
        if members is not None:
            now = clock.now()
            # Between requests that come one after another, a look at the members now and then is enough.
            if is_idle or now >= look_at:
                members.run(now)
                look_at = now + LOOK_SECONDS
            patience = min(patience, max(0.0, members.core.deadline - now))
        request = transport.receive(patience, client)
        is_idle = request is None
        if request is not None:
            if memory is not None:
                memory.adapt()
            answer = answerer(request.frames, clock.now(), request.asker)
            # Before it is sent: whoever has the reply finds it counted.
            _count(answer, store, view)
            transport.reply(answer.frames)
            # Its frames belong to the socket from now on: that nobody refers to them any more means that they are sent.
            del answer


def _needed(serving: Serving, view: StoreView) -> int:
    """Bytes of the copies that are kept, and of one more: a new one is made before an old one makes room."""
    spec = view.layout()
    return serving.encoders.nbytes + (spec.nbytes if spec else 0)


def key_at(door: Door, view: StoreView, address: str) -> str | None:
    """The public key of the member at an address; None if no member with a listed key is there.

    Of several that were there, one that is gone comes last, and one whose key was taken off the list does not count.
    """
    keys = door.allowed.node_keys
    names = [name for name, known in view.known.items() if known.member.address == address and name in keys]
    return keys[min(names, key=lambda name: view.known[name].member.state in ("dead", "left"))] if names else None


def _count(answer: Answer, store: StoreReader, view: StoreView) -> None:
    store.count(Word.REQUESTS)
    store.count(Word.BYTES_SENT, answer.nbytes)
    store.count(Word.PAYLOAD_SENT, answer.payload_nbytes)
    if answer.refused and answer.refused != "no-lease":
        store.count(Word.REFUSALS)
        view.refusals[answer.refused] += 1


def begin(lifeline: int, log_path: str) -> Callable[[], bool]:
    """What every server's process does first: live no longer than its supervisor, log, and end on request.

    Args:
        lifeline: File descriptor of the pipe that closes when the supervisor is gone.
        log_path: Path of the node's log file; empty for standard error only.

    Returns:
        Says whether the process has been told to stop.
    """
    end_with_parent(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    handler = logging.FileHandler(Path(log_path)) if log_path else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s server  %(levelname)-7s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    raise_descriptor_limit()
    return lambda: stopping


def announce(descriptor: int, text: str) -> None:
    """Tell the supervisor that this process listens, by an empty text, or why it does not."""
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)
