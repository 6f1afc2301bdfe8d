"""Starts a process that listens on a port, and says when it does."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from p2pdl import errors
from p2pdl.errors import P2pdlError, ProcessDied
from p2pdl.node.restarts import Restarts, how_it_ended

READY_SECONDS = 60.0
"""How long a process may take until it listens: half a second is usual, half a minute while a dozen nodes load
TensorFlow on two cores."""

MORE_STARTS = 3
"""How often a process that is killed before it listens is started again: a chance kill does not strike so often."""

KILLED = "find out what ends it: the system does so when memory runs out"

ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Bytes from which on glibc fetches and returns memory piece by piece, and free bytes that it keeps at most."""

log = logging.getLogger(__name__)


class Listener:
    """A process that is to listen, from its start until it does; one that is killed before is started again.

    Args:
        module: What Python runs.
        argument: Makes its argument, given the descriptor to which it writes one line: empty when it listens, else the
            class, message and remedy of an error as a JSON list.
        descriptors: Those that it inherits.
        what: How to call it in messages.
        bind: Where it is to listen.
        has_log: Whether there is a log to look into.
    """

    def __init__(
        self,
        module: str,
        argument: Callable[[int], str],
        descriptors: Sequence[int],
        what: str,
        bind: str,
        has_log: bool = True,
    ) -> None:
        self._module = module
        self._argument = argument
        self._descriptors = descriptors
        self._failed = f"{what} did not start to listen on {bind}"
        self._remedy = "the node's log may say why" if has_log else ""
        self._restarts = Restarts(MORE_STARTS)
        self._start()

    def poll(self, seconds: float = 0.0) -> subprocess.Popen[bytes] | None:
        """The process if it listens; None if it does not yet.

        Args:
            seconds: How long to wait for it.

        Raises:
            StartupError: It cannot listen there, or its keys cannot be used.
            ProcessDied: It ended, or did not say that it listens.
        """
        try:
            if not select.select([self._ready], [], [], seconds)[0]:
                if time.monotonic() < self._give_up_at:
                    return None
                raise ProcessDied(f"{self._failed} within {READY_SECONDS:g} s", self._remedy)
            piece = os.read(self._ready, 4096)
            if not piece:
                self._on_death(self._process.wait())
                return None
            self._said += piece
            if not self._said.endswith(b"\n"):
                return None
            if said := self._said.strip():
                kind, message, remedy = json.loads(said)
                error_class: type[P2pdlError] = getattr(errors, kind)
                raise error_class(message, remedy)
        except P2pdlError:
            self.end()
            raise
        os.close(self._ready)
        return self._process

    def ready(self) -> subprocess.Popen[bytes]:
        """Wait until it listens.

        Raises:
            StartupError: It cannot listen there, or its keys cannot be used.
            ProcessDied: It ended, or did not say that it listens.
        """
        while (process := self.poll(READY_SECONDS)) is None:
            pass
        return process

    def end(self) -> None:
        """Give up; not for a process that listens."""
        self._process.kill()
        self._process.wait()
        os.close(self._ready)

    def _start(self) -> None:
        self._ready, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, self._argument(writing)],
                pass_fds=(*self._descriptors, writing),
                stdin=subprocess.DEVNULL,
                env=exchange_environment(),
                process_group=0,
            )
        except BaseException:
            os.close(self._ready)
            raise
        finally:
            os.close(writing)
        self._said = b""
        self._give_up_at = time.monotonic() + READY_SECONDS

    def _on_death(self, code: int) -> None:
        message = f"{self._failed}: {how_it_ended(code)}"
        if code >= 0:
            raise ProcessDied(message, self._remedy)
        pause = self._restarts.on_death(time.monotonic())
        if pause is None:
            raise ProcessDied(f"{message}, {self._restarts.deaths} times in a row", KILLED)
        log.warning("%s; starting it again", message)
        time.sleep(pause)
        os.close(self._ready)
        self._start()


def exchange_environment() -> dict[str, str]:
    """This process's environment for a process that handles shards; what the user set stays.

    glibc gives freed memory of a shard's size back to the kernel, and fetches it anew for the next shard, page by page:
    that took two thirds of the time of an encoding to `int8`.
    """
    return {**ALLOCATION, **os.environ}
