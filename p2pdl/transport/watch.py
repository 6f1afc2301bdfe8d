"""Why a connection does not come about: what ZeroMQ says of each attempt, in words.

`tests/transport/test_reasons.py` tries the cases. A server with another key than expected and one without encryption
may look the same from here: the connection ends within the handshake.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import zmq

from p2pdl.errors import PeerError

TURNED_AWAY = 400
"""What a server answers to a key that it does not let in."""

EVENTS = (
    zmq.EVENT_CONNECT_DELAYED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_EVENT = struct.Struct("=Hi")
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Trouble:
    """One way to fail.

    Attributes:
        code: Of the `PeerError`.
        message: What is said behind the address.
        remedy: What the user can do about it.
    """

    code: str
    message: str
    remedy: str

    def at(self, address: str) -> PeerError:
        """The same as an error."""
        return PeerError(f"{address}: {self.message}", self.remedy, code=self.code)


_SAME = "give every node of the cluster the same `security` and the same list of keys"

REFUSED = Trouble("connection-refused", "refuses connections", "is a node running there, and is its port right?")
UNREACHABLE = Trouble(
    "unreachable", "cannot be reached", "does a node run there, and do its network and firewalls let connections in?"
)
UNRESOLVED = Trouble(
    "unresolved", "its name does not lead to a machine", "correct the name, or write a number in its place"
)
SILENT = Trouble("silent", "takes connections and says nothing", "is the process there stopped?")
CLOSED = Trouble(
    "not-a-node", "takes connections and closes them", "is the port right? Something else than a node is behind it"
)
DENIED = Trouble(
    "denied",
    "does not let this node in, whose key is not on the list there",
    "copy the list of keys to that machine; a running node follows it within seconds",
)
UNCHECKED = Trouble("denied", "could not check this node's key", "its log says why")
NOT_ENCRYPTED = Trouble("encryption", "takes no encrypted connections, and this node makes no others", _SAME)
ONLY_ENCRYPTED = Trouble("encryption", "takes encrypted connections only, and this node has no key", _SAME)
WRONG_KEY = Trouble(
    "handshake",
    "ends the handshake: it has another key than the one listed for it here, or takes no encrypted connections",
    _SAME,
)
HANDSHAKE = Trouble("handshake", "ends the handshake: it takes encrypted connections only, or is no node", _SAME)
FOREIGN = Trouble("not-a-node", "does not shake hands as a node does", "is the port right?")


class ConnectionWatch:
    """Follows one socket's attempts to connect, until one succeeds.

    Args:
        watched: A socket that has not been connected yet.
        encrypted: True if it encrypts.
        connect_seconds: After how long it gives up an attempt.
        now: Seconds of the machine's monotonic clock.

    Attributes:
        socket: Readable when something has happened.
    """

    def __init__(self, watched: zmq.Socket[bytes], encrypted: bool, connect_seconds: float, now: float) -> None:
        self._watched = watched
        self._encrypted = encrypted
        self._connect_seconds = connect_seconds
        self._made_at = now
        self._tried_at: float | None = None
        self._last = 0
        self._trouble: Trouble | None = None
        endpoint = f"inproc://p2pdl-watch-{next(_numbers)}"
        watched.monitor(endpoint, EVENTS)
        self.socket = watched.context.socket(zmq.PAIR)
        self.socket.linger = 0
        # ZeroMQ's own thread waits where there is no room to say what has happened.
        self.socket.rcvhwm = 0
        self.socket.connect(endpoint)

    @property
    def is_up(self) -> bool:
        """True once the connection stands: there is nothing more to follow."""
        return self._last == zmq.EVENT_HANDSHAKE_SUCCEEDED

    @property
    def has_ended(self) -> bool:
        """True if this socket will not try again."""
        return self._last == zmq.EVENT_DISCONNECTED

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong; None if the connection stands, and as long as nothing is known."""
        if self._trouble is not None:
            return self._trouble
        if self._last == zmq.EVENT_CONNECTED:
            return SILENT
        return UNREACHABLE if self._tried_at is not None else None

    def read(self, since: float, now: float) -> None:
        """Take in what has happened.

        Args:
            since: Nothing of it happened before that, in seconds of the machine's monotonic clock.
            now: The time.
        """
        while True:
            try:
                event, value = _EVENT.unpack(self.socket.recv_multipart(zmq.DONTWAIT)[0])
            except zmq.Again:
                return
            self._on_event(event, value, max(since, self._made_at), now)
            self._last = event

    def close(self) -> None:
        """Stop following; to be called before the socket is closed."""
        self._watched.disable_monitor()
        self.socket.close()

    def _on_event(self, event: int, value: int, since: float, now: float) -> None:
        match event:
            case zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CLOSED:
                self._tried_at = since if self._tried_at is None else self._tried_at
            case zmq.EVENT_CONNECT_RETRIED:
                if self._tried_at is not None:
                    # An attempt that nobody answers takes as long as it may.
                    refused = now - self._tried_at < 0.9 * self._connect_seconds
                    self._trouble = REFUSED if refused else UNREACHABLE
                elif self._last != zmq.EVENT_DISCONNECTED:
                    self._trouble = UNRESOLVED
                self._tried_at = None
            case zmq.EVENT_CONNECTED:
                self._tried_at = None
            case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._trouble = None
            case zmq.EVENT_DISCONNECTED if self._last == zmq.EVENT_CONNECTED:
                self._trouble = CLOSED
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._trouble = DENIED if value == TURNED_AWAY else UNCHECKED
            case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._trouble = WRONG_KEY if self._encrypted else HANDSHAKE
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                self._trouble = NOT_ENCRYPTED if self._encrypted else ONLY_ENCRYPTED
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self._trouble = FOREIGN
