"""Asks many nodes one question after another, each at its own pace, over one client."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from dataclasses import dataclass

from p2pdl.errors import PeerError, PeerTimeout, ProtocolError
from p2pdl.node.cluster_status import ASKER
from p2pdl.node.connection_sighting import Answer, Heard
from p2pdl.protocol.messages import Envelope, Request
from p2pdl.transport.contract import ClientTransport, Received
from p2pdl.wire import decode, encode

ANSWER_SECONDS = 2.0

SHORTEST_SECONDS = 0.2
"""What a question gets that is asked just before the end."""

FINAL_CODES = frozenset({"denied", "encryption", "handshake"})
"""Reasons after which waiting for an answer is of no use."""

Talk = Generator[Request, Answer, None]
"""Yields questions, is sent the answer to each, and ends when it has no more."""


@dataclass(slots=True)
class _Pending:
    address: str
    talk: Talk
    asked_at: float
    timeout: float


class Conversations:
    """What is being asked of whom.

    Args:
        cluster: The cluster to ask for.
        client: How to reach the nodes.
        give_up_at: Monotonic seconds when all must be over.
    """

    def __init__(self, cluster: str, client: ClientTransport, give_up_at: float) -> None:
        self._cluster = cluster
        self._client = client
        self._give_up_at = give_up_at
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}

    @property
    def going_on(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._pending)

    def begin(self, address: str, talk: Talk) -> None:
        """Ask the first question of a conversation."""
        self._ask(address, talk, None)

    def run(self, timeout: float) -> None:
        """Take in one reply, if one comes, and end the waiting for those that are overdue."""
        received = self._client.receive(timeout)
        if received is not None:
            self._take(received)
        now = time.monotonic()
        for number, pending in list(self._pending.items()):
            reason = self._client.reason(pending.address)
            if reason is not None and reason.code in FINAL_CODES:
                self._answer(number, reason)
            elif now >= pending.asked_at + pending.timeout:
                text = f"{pending.address} has not answered within {pending.timeout:.1f} s"
                self._answer(number, reason or PeerTimeout(text))

    def _take(self, received: Received) -> None:
        now = time.monotonic()
        waiting = [number for number, pending in self._pending.items() if pending.address == received.address]
        try:
            envelope = decode(received.frames[0] if received.frames else b"")
        except ProtocolError as error:
            text = f"{received.address} answers, but not as a node of p2pdl does: {error.message}"
            failure: PeerError = ProtocolError(text, "is this really the port of a node?")
        except PeerError as error:
            failure = error
        else:
            # A node that cannot read a question answers it with number 0.
            for number in waiting:
                if envelope.id in (0, number):
                    self._answer(number, Heard(envelope, received.frames[1:], now - self._pending[number].asked_at))
            return
        for number in waiting:
            self._answer(number, failure)

    def _answer(self, number: int, answer: Answer) -> None:
        pending = self._pending.pop(number)
        self._ask(pending.address, pending.talk, answer)

    def _ask(self, address: str, talk: Talk, answer: Answer | None) -> None:
        while True:
            try:
                request = next(talk) if answer is None else talk.send(answer)
            except StopIteration:
                return
            number, now = next(self._ids), time.monotonic()
            try:
                self._client.send(address, [encode(Envelope(number, self._cluster, ASKER, request))])
            except PeerError as error:
                answer = error
                continue
            timeout = max(SHORTEST_SECONDS, min(ANSWER_SECONDS, self._give_up_at - now))
            self._pending[number] = _Pending(address, talk, now, timeout)
            return
