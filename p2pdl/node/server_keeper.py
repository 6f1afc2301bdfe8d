"""Keeps a node's server process alive, as long as the node is."""

from __future__ import annotations

import logging
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError
from p2pdl.node.children import Lifeline, serving_limits, start_server
from p2pdl.node.listening import READY_SECONDS, Listener
from p2pdl.node.membership import preset_of
from p2pdl.node.restarts import PAUSES, Restarts, how_it_ended
from p2pdl.node.security import keys_folder
from p2pdl.server.start import MembershipStart
from p2pdl.types import NodeId

GOODBYE_SECONDS = 5.0
"""How long a server that has been told to stop may take."""

log = logging.getLogger(__name__)


class ServerKeeper:
    """Starts the server of one node, and starts it again over the same weights whenever it has died.

    Args:
        configuration: The cluster.
        node: The node's name.
        store: The weight store's descriptor; stays the caller's.
        lifeline: Ends the server with this process.
        folder: The node's run folder.
        shared_settings: The JSON for nodes that join; None if there is none.
        contacts: Addresses by name of members known from before, besides those of the file.
        join: Addresses of nodes to begin with, besides those of the file.

    Raises:
        StartupError: The file does not say whether connections are encrypted, and they can come from anywhere.
    """

    def __init__(
        self,
        configuration: Configuration,
        node: NodeId,
        store: int,
        lifeline: Lifeline,
        folder: Path,
        shared_settings: Path | None = None,
        contacts: Mapping[NodeId, str] | None = None,
        join: Sequence[str] = (),
    ) -> None:
        entry = configuration.node(node)
        self.address = str(entry.listen)
        self._configuration = configuration
        self._node = node
        self._store = store
        self._lifeline = lifeline
        self._folder = folder
        self._shared_settings = shared_settings
        self._keys = keys_folder(configuration)
        listed = {other.name: str(other.address) for other in configuration.nodes if other.name != node}
        self._membership = MembershipStart(
            address=str(entry.address),
            life=secrets.randbits(64),
            preset=preset_of(configuration),
            contacts={**(contacts or {}), **listed},
            join=list(join),
            seed=configuration.train.seed,
        )
        self._restarts = Restarts()
        self._starting: Listener | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0

    @property
    def deaths(self) -> int:
        """How often it has died."""
        return self._restarts.deaths

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            StartupError: It cannot listen at the node's address.
            ProcessDied: It ended, or did not say that it listens.
        """
        while not self.listens(READY_SECONDS):
            pass

    def listens(self, seconds: float = 0.0) -> bool:
        """Start it if that has not been done; to be called until it listens.

        Args:
            seconds: How long to wait for it.

        Returns:
            Whether it listens.

        Raises:
            StartupError: It cannot listen at the node's address.
            ProcessDied: It ended, or did not say that it listens.
        """
        starting, self._starting = self._starting or self._start_server(), None
        self._process = starting.poll(seconds)
        if self._process is None:
            self._starting = starting
        return self._process is not None

    def keep(self) -> None:
        """Start it again if it has died; to be called again and again."""
        if self._process is not None:
            if (code := self._process.poll()) is None:
                return
            self._process = None
            self._due = time.monotonic() + (self._restarts.on_death(time.monotonic()) or 0.0)
            log.warning("the server process was lost (%s); starting it again over the same weights", how_it_ended(code))
        if time.monotonic() >= self._due:
            try:
                if self.listens():
                    log.info("the server process answers again on %s", self.address)
            except (P2pdlError, OSError) as error:
                self._due = time.monotonic() + PAUSES[-1]
                why = error.message if isinstance(error, P2pdlError) else f"the server cannot be started: {error}"
                log.warning("%s; training goes on, trying again in %g s", why, PAUSES[-1])

    def end(self) -> None:
        """Tell it to say goodbye to the other members and to end."""
        if self._starting is not None:
            self._starting.end()
            self._starting = None
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start_server(self) -> Listener:
        return start_server(
            self._configuration.cluster.name,
            self._node,
            self.address,
            self._store,
            self._lifeline,
            self._folder / "node.log",
            serving_limits(self._configuration),
            # Workers of a parameter server have nothing to do with each other.
            self._membership if self._configuration.strategy != "parameter-server" else None,
            self._shared_settings,
            self._keys,
        )
