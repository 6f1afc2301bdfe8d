"""A worker's way to one parameter server, which holds a range of the model: join, push, pull, leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xxhash

from p2pdl.codec.ends import decoder
from p2pdl.errors import ProtocolError
from p2pdl.protocol.messages import (
    BeginRequest,
    InitialRequest,
    JoinRequest,
    LeaveRequest,
    PushRequest,
    Request,
    StatusReply,
    StatusRequest,
    WorkerReply,
)
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.sparsifier import Selection, SelectionCoding
from p2pdl.spec import ALIGNMENT, SHARD_ELEMENTS, WeightSpec, shard_of, shards_in
from p2pdl.transport.contract import Frames
from p2pdl.types import Float32Vector, NodeId

WINDOW = 4
"""Frames of a push that are under way at one time."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a worker talks to its servers.

    Attributes:
        pull: Deadlines and window of a pull.
        codec: How weights are encoded on their way to the worker.
        values: How the values of a push are coded.
        timeout: Seconds without any reply after which a server counts as silent.
    """

    pull: PullSettings
    codec: str
    values: str
    timeout: float


class ServerLink:
    """One server, seen from one worker; used by one thread.

    Args:
        name: The server's name.
        address: Where it is.
        requester: Talks to it.
        spec: The layout of the whole model.
        span: The elements of the model's vector that this server holds.
        settings: How to talk.

    Attributes:
        reply: How the worker stands with the server, as it last said.
        pushed_bytes: Bytes of updates that were sent.
    """

    def __init__(
        self, name: NodeId, address: str, requester: Requester, spec: WeightSpec, span: slice, settings: LinkSettings
    ) -> None:
        self.name = name
        self.address = address
        self.span = span
        self._requester = requester
        self._spec = part_of(spec, span)
        self._settings = settings
        self._coding = SelectionCoding(self._spec, settings.values)
        self._inbox = Inbox(self._spec)
        self._decoder = decoder(settings.codec, self._spec)
        self.reply: WorkerReply | None = None
        self.pushed_bytes = 0
        self._bases = [0] * shards_in(self._spec.size)

    @property
    def shards(self) -> int:
        """How many shards the range has."""
        return len(self._bases)

    @property
    def base(self) -> int:
        """The version that was pulled last, of the shard for which that is longest ago."""
        return min(self._bases)

    @property
    def vector(self) -> Float32Vector:
        """The range, as it was pulled last."""
        return self._inbox.vector

    def elements(self, part: range | None) -> slice:
        """The elements of the model's vector that some shards of the range hold; all of it for None."""
        if part is None:
            return self.span
        start = self.span.start
        return slice(start + part.start * SHARD_ELEMENTS, min(start + part.stop * SHARD_ELEMENTS, self.span.stop))

    def join(self) -> WorkerReply:
        """Take part, or take part again.

        Raises:
            PeerError: The server cannot be reached, or refuses.
        """
        return self._ask(JoinRequest(self._spec.digest), ["\n".join(self._spec.rows()).encode()])

    def begin(self) -> WorkerReply:
        """Ask whether the next iteration may begin.

        Raises:
            PeerError: The server cannot be reached, or refuses.
        """
        return self._ask(BeginRequest())

    def leave(self, finished: bool) -> None:
        """Say goodbye.

        Args:
            finished: True if all steps are done.

        Raises:
            PeerError: The server did not hear it.
        """
        self._ask(LeaveRequest(finished))

    def is_done(self) -> bool:
        """Whether every worker has finished.

        Raises:
            PeerError: The server cannot be reached, or refuses.
        """
        reply, _ = self._requester.ask(self.address, StatusRequest(), self._settings.timeout)
        return isinstance(reply, StatusReply) and reply.state == "finished"

    def send_initial(self, vector: Float32Vector) -> WorkerReply:
        """Send the weights to begin with.

        Args:
            vector: The whole model's.

        Raises:
            PeerError: They did not arrive.
        """
        own = vector[self.span]
        parts: list[tuple[Request, Frames]] = []
        for number in range(shards_in(own.size)):
            frame = shard_of(own, number).tobytes()
            parts.append((InitialRequest(number, xxhash.xxh3_64_intdigest(frame)), [frame]))
        return self._push(parts)

    def push(
        self, selection: Selection, loss: float | None, samples: int, seed: int, part: range | None = None
    ) -> WorkerReply:
        """Send what an iteration has made.

        Args:
            selection: Of the whole model's vector.
            loss: The training loss; None where there is none.
            samples: Training samples behind it.
            seed: Decides how values are rounded by chance.
            part: The shards, maybe none, that the iteration is to move; all where None.

        Raises:
            PeerError: It did not arrive, or was refused; part of it may have been applied.
        """
        assert self.reply is not None
        payloads = self._coding.encode(_within(selection, self.span), seed, part)
        base = min((self._bases[number] for number in part), default=0) if part is not None else self.base
        frames: list[tuple[int, Frames]] = [(number, [payload.data]) for number, payload in payloads] or [(0, [b""])]
        parts: list[tuple[Request, Frames]] = []
        for place, (number, frame) in enumerate(frames):
            last = place == len(frames) - 1
            digest = xxhash.xxh3_64_intdigest(frame[0])
            request = PushRequest(
                self.reply.incarnation,
                self.reply.clock,
                base,
                number,
                last,
                part is not None,
                digest,
                loss,
                samples,
            )
            parts.append((request, frame))
        reply = self._push(parts)
        self.pushed_bytes += sum(len(frame[0]) for _, frame in frames)
        return reply

    def pull(self, called_off: Callable[[], bool] = lambda: False, part: range | None = None) -> Outcome:
        """Get the weights as they are now into `vector`.

        Args:
            called_off: Asked now and then; True ends it.
            part: The shards to get, at least one; all where None.

        Returns:
            `Outcome.error` says what went wrong.
        """
        self._inbox.expect(None)
        outcome = self._requester.pull(
            self.name,
            self.address,
            self._spec,
            self._settings.pull,
            self._inbox.accept,
            called_off=called_off,
            decoder=self._decoder,
            part=part,
        )
        if outcome.error is None and outcome.snapshot is not None:
            for number in part or range(self.shards):
                self._bases[number] = outcome.snapshot.version
        return outcome

    def _push(self, parts: Sequence[tuple[Request, Frames]]) -> WorkerReply:
        self.reply = self._requester.push(self.address, parts, self._settings.timeout, WINDOW)
        return self.reply

    def _ask(self, request: Request, payload: Frames = ()) -> WorkerReply:
        reply, _ = self._requester.ask(self.address, request, self._settings.timeout, payload)
        if not isinstance(reply, WorkerReply):
            raise ProtocolError(f"{self.name}: answered with a {type(reply).__name__}")
        self.reply = reply
        return reply


def spans(size: int, servers: int) -> list[slice]:
    """The range of the vector that each server holds: about equally long, whole lines of 64 bytes.

    Raises:
        ValueError: The vector is too short for so many.
    """
    lines = size // ALIGNMENT
    if not 0 < servers <= lines:
        raise ValueError(f"{size} elements cannot be divided among {servers} servers")
    bounds = [lines * place // servers * ALIGNMENT for place in range(servers)] + [size]
    return [slice(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]


def part_of(spec: WeightSpec, span: slice) -> WeightSpec:
    """The layout of a range of the vector, cut where a variable goes beyond it."""
    if span == slice(0, spec.size):
        return spec
    rows = []
    for variable in spec.variables:
        start, stop = max(variable.span.start, span.start), min(variable.span.stop, span.stop)
        if start < stop:
            name = f"{variable.name}[{start - variable.offset}:{stop - variable.offset}]"
            rows.append((name, (stop - start,), variable.dtype, variable.trainable))
    return WeightSpec.layout(rows)


def _within(selection: Selection, span: slice) -> Selection:
    """The part of a selection that lies in a range, counted from its beginning."""
    if selection.indices is None:
        return Selection(None, selection.values[span])
    begin, end = selection.indices.searchsorted([span.start, span.stop])
    return Selection(selection.indices[begin:end] - span.start, selection.values[begin:end])
