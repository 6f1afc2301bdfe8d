"""The limits that a server process sets itself, so that what peers send or never read ends it, not the machine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

if sys.platform != "win32":
    import resource

DESCRIPTORS = 4096
"""Descriptors that a server may have open, where the machine allows it: one for each connection."""

log = logging.getLogger(__name__)


def raise_descriptor_limit() -> int:
    """Let this process have more connections than the usual 1024.

    Returns:
        The limit that is in force now; -1 if there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class MemoryLimit:
    """Bounds the memory of this process to what it had when this was made, what it needs since, and an allowance.

    It is `RLIMIT_DATA`, which on Linux is about all writable memory of the process's own: neither the store, which is
    shared, nor address space that allocators only reserve count. An allocation beyond it fails, in ZeroMQ or in
    Python. Elsewhere nothing is limited, and the log says so once.

    Args:
        allowance: Bytes that peers may make the process take.
        needed: Says how many bytes beyond these the process needs at the moment.
    """

    def __init__(self, allowance: int, needed: Callable[[], int]) -> None:
        self._needed = needed
        self._granted = -1
        own = data_nbytes()
        self._base = None if own is None else own + allowance
        if self._base is None:
            log.info("this system does not limit the memory of a process: server.memory is without effect")
        self.adapt()

    def adapt(self) -> None:
        """Raise the limit to what is needed now; it is never lowered, since freed memory is kept for the next use."""
        needed = self._needed()
        if self._base is None or needed <= self._granted:
            return
        self._granted = needed
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = self._base + needed
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def data_nbytes() -> int | None:
    """Bytes of this process that `RLIMIT_DATA` counts; None where it does not, or nobody knows."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return None
