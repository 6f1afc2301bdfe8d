"""From the frames of a request to the frames of its reply: the whole server but for its socket."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from p2pdl.errors import IncompatiblePeer, ProtocolError
from p2pdl.protocol.messages import (
    Envelope,
    InitialRequest,
    JoinRequest,
    PushRequest,
    RangeRequest,
    Refusal,
    Reply,
    SettingsRequest,
    SpecRequest,
    StatusRequest,
)
from p2pdl.protocol.serving import Payload, Serving, refusal
from p2pdl.server.backlog import Backlog
from p2pdl.transport.contract import Asker, Frames
from p2pdl.wire import decode, encode

ANYBODY = "status"
"""The name under which a program asks that is no node, whoever's key it uses."""

OPERATORS_MAY = (StatusRequest, SettingsRequest, SpecRequest)
"""What an operator is answered."""

WITH_PAYLOAD = (JoinRequest, InitialRequest, PushRequest)
"""Requests with which a frame comes along."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, ready to be sent.

    Attributes:
        frames: Header and payload.
        nbytes: Bytes of all frames.
        payload_nbytes: Bytes of the payload alone.
        refused: The code, if the reply is a refusal.
    """

    frames: Frames
    nbytes: int
    payload_nbytes: int
    refused: str


class Answerer:
    """Turns requests into replies; whatever is sent to it, it answers and never raises.

    Args:
        cluster: This node's cluster.
        node: This node's name.
        serving: What to answer.
        backlog: Encoded replies that are still to be sent; while it is full, no more are made.
    """

    def __init__(self, cluster: str, node: str, serving: Serving, backlog: Backlog | None = None) -> None:
        self._cluster = cluster
        self._node = node
        self._serving = serving
        self.backlog = backlog or Backlog()
        self._was_short_of_memory = False

    def __call__(self, frames: Sequence[memoryview], now: float, asker: Asker | None = None) -> Answer:
        """Answer one request.

        Args:
            frames: What somebody sent: if it is a request, a header, and for some of a worker's one frame more.
            now: Seconds of the machine's monotonic clock.
            asker: Who that is, as a key proves; None where nothing proves it, and the request's own word counts.
        """
        request_id = 0
        payload: Payload = ()
        reply: Reply
        try:
            if not frames:
                raise ProtocolError("a request has one frame at least")
            envelope = decode(frames[0])
            request_id = envelope.id
            wanted = 2 if isinstance(envelope.message, WITH_PAYLOAD) else 1
            if len(frames) != wanted:
                raise ProtocolError(f"{type(envelope.message).__name__} is {wanted} frames, not {len(frames)}")
            why = _refused(envelope, asker) if asker is not None else None
            if why is not None:
                reply = why
            else:
                if asker is not None and envelope.node != asker.name:
                    envelope = replace(envelope, node=asker.name)
                reply, payload = self._replied(envelope, now, frames[1] if len(frames) > 1 else None)
        except IncompatiblePeer as error:
            reply = refusal("protocol-version", error.message)
        except ProtocolError as error:
            reply = refusal("bad-request", error.message)
        except Exception as error:
            reply = self._failed(error)
        try:
            return self._answer(request_id, reply, payload)
        except Exception as error:
            return self._answer(request_id, self._failed(error), ())

    def _replied(self, envelope: Envelope, now: float, sent: memoryview | None) -> tuple[Reply, Payload]:
        encodes = isinstance(envelope.message, RangeRequest) and envelope.message.codec != "float32"
        if encodes and self.backlog.is_full:
            return refusal("busy", "replies that nobody reads take the memory of new ones"), ()
        reply, payload = self._serving.on_request(envelope, now, sent)
        if encodes:
            self.backlog.add(payload)
        return reply, payload

    def _failed(self, error: Exception) -> Refusal:
        # A REP socket that received must send: whatever went wrong here, the next peer is to be served.
        if not isinstance(error, MemoryError):
            log.error("a request could not be answered", exc_info=error)
        else:
            gc.collect()
            # Once: whoever takes the memory may go on asking.
            if not self._was_short_of_memory:
                log.error("a request could not be answered within the memory that server.memory allows")
            self._was_short_of_memory = True
        return refusal("internal")

    def _answer(self, request_id: int, reply: Reply, payload: Payload) -> Answer:
        header = encode(Envelope(request_id, self._cluster, self._node, reply))
        nbytes = sum(len(frame) if isinstance(frame, bytes) else frame.nbytes for frame in payload)
        refused = reply.code if isinstance(reply, Refusal) else ""
        return Answer([header, *payload], len(header) + nbytes, nbytes, refused)


def _refused(envelope: Envelope, asker: Asker) -> Refusal | None:
    """Why this asker gets no answer to this request; None if it does."""
    if not asker.name:
        return refusal("identity", "this key is not on the list any more")
    if envelope.node not in (asker.name, ANYBODY):
        return refusal("identity", f"this is the key of {asker.name!r}, not of {envelope.node!r}")
    if asker.operator and not isinstance(envelope.message, OPERATORS_MAY):
        return refusal("forbidden", f"{asker.name!r} is on the list as an operator")
    return None


def reply_only(answerer: Answerer) -> Callable[[Sequence[memoryview], float], Frames]:
    """The answerer as a handler of the in-memory network."""
    return lambda frames, now: answerer(frames, now).frames
