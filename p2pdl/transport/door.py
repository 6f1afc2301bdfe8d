"""Whom a server lets in: the owners of listed keys, each under the name for which its key is listed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from p2pdl.errors import P2pdlError
from p2pdl.keys import AllowList
from p2pdl.transport.contract import Asker
from p2pdl.transport.curve import Identity, load_identity
from p2pdl.types import NodeId

LOOK_SECONDS = 2.0
"""Between two looks at the list, which may have changed."""

REMEMBERED = 256
"""Keys turned away that have been logged; of more than that nothing is said, since anybody can make up keys."""

STRANGER = Asker("")
"""Whoever came in with a key that is not listed any more."""

log = logging.getLogger(__name__)


class Door:
    """A server's own key, and the list of those that it lets in.

    Args:
        identity: Who the server is.
        allowed: Whom it lets in; followed as it changes.
    """

    def __init__(self, identity: Identity, allowed: AllowList) -> None:
        self.identity = identity
        self.allowed = allowed
        self._askers: dict[str, Asker] = {}
        self._look_at = 0.0
        self._turned_away: set[bytes] = set()
        self._turned_away_count = 0
        self._count_lock = threading.Lock()
        self._take_over()

    @classmethod
    def of(cls, folder: Path, node: NodeId) -> Door:
        """The door of a node, out of the folder of the keys.

        Raises:
            StartupError: The node's secret or the list cannot be used.
        """
        allowed = AllowList(folder)
        return cls(load_identity(folder, node, allowed), allowed)

    def is_allowed(self, key: bytes, address: str) -> bool:
        """Whether the owner of a key may come in; called by the thread of the authenticator.

        Args:
            key: Its public key, 32 bytes.
            address: Its IP address, for the log.
        """
        if key.hex() in self._askers:
            return True
        with self._count_lock:
            self._turned_away_count += 1
        if key not in self._turned_away and len(self._turned_away) < REMEMBERED:
            self._turned_away.add(key)
            log.warning(
                "a client at %s was turned away: its key %s is not on the list\n"
                "  -> if it belongs to this cluster, copy its line in the list of its machine to this one",
                address,
                key.hex(),
            )
        return False

    def asker(self, user: str) -> Asker:
        """Who has sent a frame.

        Args:
            user: What the authenticator has told ZeroMQ about the connection: the key.
        """
        return self._askers.get(user, STRANGER)

    def take_turned_away(self) -> int:
        """How many clients have been turned away since the last call."""
        with self._count_lock:
            count, self._turned_away_count = self._turned_away_count, 0
        return count

    def look(self, now: float) -> None:
        """Follow the list, now and then; to be called again and again.

        Args:
            now: Seconds of the machine's monotonic clock.
        """
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            if not self.allowed.reload():
                return
        except P2pdlError as error:
            log.warning("the list of keys has changed, and is left as it was: %s", error)
            return
        self._take_over()
        if self.allowed.node_keys.get(self.identity.name) != self.identity.public:
            log.error("the list of keys has changed: it does not hold this node's own key any more")
        log.info("the list of keys has changed: %s may take part", ", ".join(sorted(self.allowed.node_keys)))

    def _take_over(self) -> None:
        # A whole new dictionary, because another thread reads it.
        self._askers = {entry.public: Asker(entry.name, entry.operator) for entry in self.allowed.entries.values()}
        self._turned_away = set()
