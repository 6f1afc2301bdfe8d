"""`p2pdl up`: the nodes of this machine as one, each its own `p2pdl node`, started, watched and stopped together."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from types import FrameType
from typing import Literal, Protocol

from p2pdl.config import Configuration
from p2pdl.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from p2pdl.node.children import Lifeline
from p2pdl.node.cluster_status import NodeStatus, StatusWatch
from p2pdl.node.node_output import Message, read_messages
from p2pdl.node.restarts import how_it_ended
from p2pdl.node.security import keys_folder
from p2pdl.node.stopping import GRACE_SECONDS, WATCH_SECONDS, code_after
from p2pdl.types import NodeId

PROGRESS_SECONDS = 0.5

LAST_WORDS_SECONDS = 5.0
"""How long, after a node has ended, its processes may still hold its standard error."""

UNSEEN = (OSError, SystemExit)
"""What showing something raises on a full disk, or where nobody reads any more: the nodes have logs, and go on."""

CommandFor = Callable[[NodeId, int], list[str]]
"""Makes the command line of a node, given its name and the reading end of the lifeline."""


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """How a node of the file is, as far as this machine knows.

    Attributes:
        name: The node's name.
        local: Whether it is one of this machine's.
        exit_code: What its process has ended with; None while it runs, or runs elsewhere.
        heard: Its last status; None before the first.
    """

    name: NodeId
    local: bool
    exit_code: int | None
    heard: NodeStatus | None


class Observer(Protocol):
    """Shows people how a cluster is getting on; called from one thread."""

    def message(self, message: Message) -> None:
        """A node has written something, or there is something to say about all of them."""
        ...

    def progress(self, nodes: Sequence[NodeProgress]) -> None:
        """How the nodes are now; called about twice a second."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the nodes of this machine have ended.

    Attributes:
        exit_code: 0 all done · 1 a node failed · 2 a node could not start · 130 interrupted.
        exit_codes: What each node's process ended with, in the order of the file; negative for a signal.
        seconds: From the first start to the last end.
        stopped: Whether the nodes were told to end early.
    """

    exit_code: int
    exit_codes: dict[NodeId, int]
    seconds: float
    stopped: bool

    @property
    def failed(self) -> dict[NodeId, str]:
        """How each node ended that did not end well."""
        return {name: how_it_ended(code) for name, code in self.exit_codes.items() if code != EXIT_DONE}

    @property
    def could_not_start(self) -> list[NodeId]:
        """The nodes that ended before any training."""
        return [name for name, code in self.exit_codes.items() if code == EXIT_USAGE]


class LocalCluster:
    """Runs nodes of one file on this machine.

    A node that dies costs the others nothing. One that cannot even start shows a mistake that concerns them all, and
    ends the run.

    Args:
        configuration: The cluster.
        names: The nodes to run here.
        command: How to run each.
        observer: Who shows how it goes.
    """

    def __init__(
        self, configuration: Configuration, names: Sequence[NodeId], command: CommandFor, observer: Observer
    ) -> None:
        self._configuration = configuration
        self._names = names
        self._command = command
        self._observer = observer
        self._processes: dict[NodeId, subprocess.Popen[bytes]] = {}
        self._readers: list[Thread] = []
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._exit_codes: dict[NodeId, int] = {}
        self._signals: list[int] = []
        self._stopping = False
        self._could_not_start = False
        self._next_progress = 0.0

    def run(self) -> Outcome:
        """Start every node and watch until all have ended; the first Ctrl-C stops them, the second one at once.

        Raises:
            StartupError: There is no key to ask the nodes with.
        """
        addresses = {entry.name: str(entry.address) for entry in self._configuration.nodes}
        watch = StatusWatch(self._configuration.cluster.name, addresses, keys_folder(self._configuration))
        started = time.monotonic()
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        lifeline = Lifeline()
        try:
            for name in self._names:
                self._start(name, lifeline)
            while self._running():
                self._show_messages(WATCH_SECONDS)
                self._note_ends()
                self._obey_signals()
                self._show_progress(watch)
            self._hear_last_words()
            self._show_progress(watch, at_once=True)
        finally:
            # Whatever has gone wrong here, no node is left to itself, and each may save what it has trained.
            self._end_all()
            lifeline.close()
            watch.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        exit_codes = {name: self._exit_codes[name] for name in self._names}
        return Outcome(self._exit_code(), exit_codes, time.monotonic() - started, self._stopping)

    def _start(self, name: NodeId, lifeline: Lifeline) -> None:
        reading, writing = os.pipe()
        try:
            self._processes[name] = subprocess.Popen(
                self._command(name, lifeline.reading),
                pass_fds=(lifeline.reading,),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                # Ctrl-C of the terminal comes to this process alone, which tells the nodes.
                process_group=0,
            )
        finally:
            os.close(writing)
            self._readers.append(read_messages(name, reading, self._messages.put))

    def _end_all(self) -> None:
        running = self._running()
        for process in running:
            process.terminate()
        give_up_at = time.monotonic() + GRACE_SECONDS + LAST_WORDS_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [process for name, process in self._processes.items() if name not in self._exit_codes]

    def _note_ends(self) -> None:
        for name, process in self._processes.items():
            code = process.poll()
            if code is None or name in self._exit_codes:
                continue
            self._exit_codes[name] = code
            if code == EXIT_DONE or self._stopping:
                continue
            if code == EXIT_USAGE:
                self._could_not_start = True
                self._stop()
            elif self._running():
                self._say(f"{name} failed ({how_it_ended(code)}); the other nodes go on", "warning")

    def _obey_signals(self) -> None:
        if self._signals and not self._stopping:
            self._say("stopping all nodes (Ctrl-C once more to stop at once)", "other")
            self._stop()
        if self._signals.count(signal.SIGINT) > 1 or len(self._signals) > 2:
            for process in self._running():
                process.kill()

    def _stop(self) -> None:
        self._stopping = True
        for process in self._running():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def _show_messages(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._tell(self._messages.get(timeout=seconds))
            while True:
                self._tell(self._messages.get_nowait())

    def _hear_last_words(self) -> None:
        """Wait until the nodes' own processes have ended too, and show what they still said."""
        give_up_at = time.monotonic() + LAST_WORDS_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, give_up_at - time.monotonic()))
        self._show_messages(0.0)

    def _show_progress(self, watch: StatusWatch, at_once: bool = False) -> None:
        now = time.monotonic()
        if now < self._next_progress and not at_once:
            return
        self._next_progress = now + PROGRESS_SECONDS
        heard = watch.latest()
        progress = [
            NodeProgress(name, name in self._processes, self._exit_codes.get(name), heard.get(name))
            for name in self._configuration.names
        ]
        with contextlib.suppress(*UNSEEN):
            self._observer.progress(progress)

    def _say(self, text: str, level: Literal["warning", "other"]) -> None:
        self._tell(Message("", level, text))

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(*UNSEEN):
            self._observer.message(message)

    def _exit_code(self) -> int:
        if self._signals:
            return code_after(self._signals)
        if self._could_not_start:
            return EXIT_USAGE
        return EXIT_FAILED if any(self._exit_codes.values()) else EXIT_DONE

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # No lock may be taken here: the handler can run in the middle of anything.
        self._signals.append(number)
