"""Runs a pull, or asks one question, over any client transport."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from p2pdl.clock import Clock
from p2pdl.codec.ends import Decoder
from p2pdl.codec.ends import decoder as make_decoder
from p2pdl.errors import IncompatiblePeer, PeerError, PeerRefused, PeerTimeout, ProtocolError
from p2pdl.protocol.actions import Accept, Action, Begin, Complete, Fail, Send, Unchanged
from p2pdl.protocol.messages import (
    Envelope,
    ProbeReply,
    RangeReply,
    Refusal,
    Reply,
    Request,
    SettingsReply,
    SnapshotReply,
    SpecReply,
    SpecRequest,
    StatusReply,
    WorkerReply,
)
from p2pdl.protocol.pull import Pull, PullSettings, VersionKey
from p2pdl.spec import WeightSpec
from p2pdl.transport.contract import ClientTransport, Frames
from p2pdl.types import Float32Vector, Indices, NodeId, printable
from p2pdl.wire import decode, encode

Sink = Callable[[int, Float32Vector, Indices | None], None]
"""Takes (offset of the shard, values, their indices within it or None for all of it)."""

POLL_SECONDS = 0.25
"""How soon a pull that is being called off notices."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pull ended.

    Attributes:
        peer: Whom it asked.
        snapshot: What the peer serves; None if the pull failed before that was known.
        unchanged: True if that is what this node knew already, and nothing was transferred.
        error: Why it failed; None if it did not.
        seconds: How long it took.
        nbytes: Bytes received, headers included.
        payload_nbytes: Bytes of weights received.
        longest_silence: The longest time in seconds between two replies.
        ended: Seconds of the machine's monotonic clock.
        accepted: Shards that went to the sink.
    """

    peer: NodeId
    snapshot: SnapshotReply | None
    unchanged: bool
    error: PeerError | None
    seconds: float
    nbytes: int
    payload_nbytes: int
    longest_silence: float = 0.0
    ended: float = 0.0
    accepted: int = 0


class Requester:
    """Talks to peers for one node; used by one thread.

    Args:
        transport: How to reach them.
        cluster: This node's cluster.
        node: This node's name.
        clock: Source of deadlines.
    """

    def __init__(self, transport: ClientTransport, cluster: str, node: NodeId, clock: Clock) -> None:
        self._transport = transport
        self._cluster = cluster
        self._node = node
        self._clock = clock
        self._ids: Iterator[int] = itertools.count(1)

    def ask(
        self, address: str, request: Request, timeout: float, payload: Frames = ()
    ) -> tuple[Reply, list[memoryview]]:
        """Ask one peer one question.

        Args:
            address: `host:port`.
            request: The question.
            timeout: Seconds to wait for the answer.
            payload: Frames that go along with it.

        Raises:
            PeerError: No answer, a refusal, or something else than an answer.
        """
        answer = self.ask_all([address], request, timeout, payload)[address]
        if isinstance(answer, PeerError):
            raise answer
        return answer

    def ask_all(
        self, addresses: Iterable[str], request: Request, timeout: float, payload: Frames = ()
    ) -> dict[str, tuple[Reply, list[memoryview]] | PeerError]:
        """Ask many peers the same question at once.

        Args:
            addresses: `host:port` of each.
            request: The question.
            timeout: Seconds to wait for all the answers.
            payload: Frames that go along with it.

        Returns:
            For each address its reply and payload, or why there is none.
        """
        answers: dict[str, tuple[Reply, list[memoryview]] | PeerError] = {}
        asked: dict[str, int] = {}
        for address in addresses:
            asked[address] = next(self._ids)
            try:
                self._send(address, asked[address], request, payload)
            except PeerError as error:
                answers[address] = error
        give_up_at = self._clock.now() + timeout
        while len(answers) < len(asked) and (left := give_up_at - self._clock.now()) > 0:
            received = self._transport.receive(left)
            if received is None or received.address not in asked:
                continue
            try:
                envelope = self._decode(received.address, received.frames)
            except PeerError as error:
                answers[received.address] = error
                continue
            if envelope.id == asked[received.address]:
                answers[received.address] = self._answer(received.address, envelope, received.frames[1:])
        for address in asked.keys() - answers.keys():
            text = f"{address}: no answer within {timeout:g} s"
            silence = PeerTimeout(text, "is the node running, and is its address reachable from here?")
            answers[address] = self._explained(address, silence)
            self._transport.reset(address)
        return answers

    def push(
        self, address: str, parts: Sequence[tuple[Request, Frames]], timeout: float, window: int = 4
    ) -> WorkerReply:
        """Send one frame after another, some of them before the replies to those before have come.

        Args:
            address: `host:port`.
            parts: The requests, one at least, each with what goes along with it.
            timeout: Seconds without any reply after which the server counts as silent.
            window: Requests in flight.

        Returns:
            The reply to the last one.

        Raises:
            PeerError: The server was silent, or has refused one of them; it may have taken the others.
        """
        waiting = deque(parts)
        flying: dict[int, None] = {}
        answer: Reply | None = None
        silent_at = self._clock.now() + timeout
        try:
            while waiting or flying:
                while waiting and len(flying) < window:
                    request, payload = waiting.popleft()
                    request_id = next(self._ids)
                    self._send(address, request_id, request, payload)
                    flying[request_id] = None
                received = self._transport.receive(max(0.0, silent_at - self._clock.now()))
                if received is None or received.address != address:
                    if self._clock.now() >= silent_at:
                        text = f"{address}: no answer within {timeout:g} s"
                        raise self._explained(address, PeerTimeout(text, "is the parameter server running?"))
                    continue
                envelope = self._decode(address, received.frames)
                if envelope.id not in flying:
                    continue
                del flying[envelope.id]
                silent_at = self._clock.now() + timeout
                found = self._answer(address, envelope, received.frames[1:])
                if isinstance(found, PeerError):
                    raise found
                answer = found[0]
        except PeerError:
            # Replies to what is still under way would be taken for those to what comes next.
            self._transport.reset(address)
            raise
        if not isinstance(answer, WorkerReply):
            raise ProtocolError(f"{address}: answered a push with a {type(answer).__name__}")
        return answer

    def pull(
        self,
        peer: NodeId,
        address: str,
        spec: WeightSpec,
        settings: PullSettings,
        sink: Sink,
        known: VersionKey | None = None,
        called_off: Callable[[], bool] = lambda: False,
        decoder: Decoder | None = None,
        part: range | None = None,
    ) -> Outcome:
        """Pull a peer's newest weights.

        Args:
            peer: The peer's name.
            address: Its address.
            spec: This node's layout.
            settings: Deadlines and window.
            sink: Takes what arrives; values are valid only during the call.
            known: The version of this peer that is not worth pulling again.
            called_off: Asked now and then; True ends the pull.
            decoder: This end of the codec; plain float32 where None.
            part: The shards to pull; all where None.
        """
        started = self._clock.now()
        decoder = decoder or make_decoder("float32", spec)
        pull = Pull(peer, spec.size, spec.digest, self._ids, settings, decoder, known, part)
        run = _Run(sink)
        error: PeerError | None = None
        try:
            self._perform(address, pull.on_start(started), run)
            while not pull.over:
                if called_off():
                    raise PeerError(f"{peer}: the pull was called off", code="called-off")
                wait = min(POLL_SECONDS, pull.deadline - self._clock.now())
                received = self._transport.receive(max(0.0, wait))
                now = self._clock.now()
                if received is None:
                    self._perform(address, pull.on_tick(now), run)
                elif received.address == address:
                    run.nbytes += sum(map(len, received.frames))
                    run.payload_nbytes += sum(map(len, received.frames[1:]))
                    envelope = self._decode(peer, received.frames)
                    self._perform(address, pull.on_reply(envelope, received.frames[1:], now), run)
        except PeerError as failure:
            error = failure
        if isinstance(error, IncompatiblePeer) and error.code == "model":
            error = self._explain_model(peer, address, spec, error)
        if isinstance(error, PeerTimeout):
            error = self._explained(address, error)
        if error is not None:
            # What is still under way belongs to a pull that is over: only a new connection is free of it.
            self._transport.reset(address)
        ended = self._clock.now()
        return Outcome(
            peer,
            run.snapshot,
            run.unchanged,
            error,
            ended - started,
            run.nbytes,
            run.payload_nbytes,
            pull.longest_silence,
            ended,
            run.accepted,
        )

    def close(self) -> None:
        """Drop every connection."""
        self._transport.close()

    def _perform(self, address: str, actions: list[Action], run: _Run) -> None:
        for action in actions:
            match action:
                case Send(request_id, request):
                    self._send(address, request_id, request)
                case Accept(offset, values, indices):
                    run.sink(offset, values, indices)
                    run.accepted += 1
                case Begin(snapshot) | Complete(snapshot):
                    run.snapshot = snapshot
                case Unchanged(snapshot):
                    run.snapshot, run.unchanged = snapshot, True
                case Fail(error):
                    raise error

    def _send(self, address: str, request_id: int, request: Request, payload: Frames = ()) -> None:
        self._transport.send(address, [encode(Envelope(request_id, self._cluster, self._node, request)), *payload])

    def _decode(self, peer: str, frames: list[memoryview]) -> Envelope:
        if not frames:
            raise ProtocolError(f"{peer}: sent an empty reply")
        try:
            return decode(frames[0])
        except ProtocolError as error:
            raise ProtocolError(f"{peer}: {error.message}", "is this really a p2pdl node?") from None

    def _answer(
        self, address: str, envelope: Envelope, payload: list[memoryview]
    ) -> tuple[Reply, list[memoryview]] | PeerError:
        match envelope.message:
            case Refusal(code, message):
                return PeerRefused(f"{address}: refused: {printable(message)}", code=code)
            case SnapshotReply() | RangeReply() | SpecReply() | StatusReply() | SettingsReply() | ProbeReply() as reply:
                return reply, payload
            case WorkerReply() as reply:
                return reply, payload
        return ProtocolError(f"{address}: answered with a {type(envelope.message).__name__}")

    def _explained(self, address: str, silence: PeerTimeout) -> PeerTimeout:
        """Why there was no answer, where the connection tells."""
        reason = self._transport.reason(address)
        if reason is None:
            return silence
        return PeerTimeout(f"{silence.message}: {reason.message.removeprefix(f'{address}: ')}", reason.remedy)

    def _explain_model(self, peer: NodeId, address: str, spec: WeightSpec, error: IncompatiblePeer) -> IncompatiblePeer:
        try:
            reply, frames = self.ask(address, SpecRequest(), timeout=5.0)
            rows = b"".join(frames).decode().split("\n") if isinstance(reply, SpecReply) else []
        except (PeerError, UnicodeDecodeError):
            return error
        difference = spec.first_difference(rows)
        text = f"{peer}: trains another model: {difference}" if difference else error.message
        return IncompatiblePeer(text, "give every node the same `model` and data shape", code="model")


@dataclass(slots=True)
class _Run:
    sink: Sink
    snapshot: SnapshotReply | None = None
    unchanged: bool = False
    nbytes: int = 0
    payload_nbytes: int = 0
    accepted: int = 0
