"""What the kernel says of the processes of a run: whose they are, what they hold, and whether any is left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARK = "P2PDL_STORM"
"""Environment variable that every process of a run inherits: what is ended is only what was started here."""

END_SECONDS = 20.0
"""How long the kernel may take to end a process that was killed, on a busy machine."""

STORE = "p2pdl-weights"
"""Part of the name under which the kernel lists the memory of a store."""

ROLES = {"p2pdl.server": "server", "p2pdl.node.trainer_process": "trainer"}
"""What a node's child processes are, by the module that they run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process holds at one moment.

    Attributes:
        time: Seconds since 1970.
        node: Whose it is.
        role: `supervisor`, `server` or `trainer`.
        process: Its id.
        descriptors: Files, sockets and pipes that it has open.
        threads: How many it has.
        mebibytes: Its own memory, without what it shares.
    """

    time: float
    node: str
    role: str
    process: int
    descriptors: int
    threads: int
    mebibytes: float


def sample(node: str, role: str, process: int) -> Sample | None:
    """A look at a process; None if it has ended."""
    try:
        descriptors = len(os.listdir(f"/proc/{process}/fd"))
        fields = dict(line.partition(":")[::2] for line in Path(f"/proc/{process}/status").read_text().splitlines())
        own = int(fields["RssAnon"].split()[0]) / 1024
        return Sample(time.time(), node, role, process, descriptors, int(fields["Threads"]), own)
    except (OSError, KeyError):
        return None


def children(process: int) -> dict[str, int]:
    """Ids of a supervisor's child processes, by role."""
    found = {}
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            with contextlib.suppress(OSError, IndexError, KeyError):
                found[ROLES[Path(f"/proc/{child}/cmdline").read_text().split("\0")[2]]] = int(child)
    return found


def marked(mark: str) -> list[int]:
    """Ids of the processes that carry a mark and have not ended."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            # Of a process that has ended and was not waited for, the environment is empty.
            if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def stores(processes: Iterable[int]) -> set[int]:
    """The stores in memory that some processes hold open, each by its number within the kernel."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    path = f"/proc/{process}/fd/{name}"
                    if STORE in os.readlink(path):
                        found.add(os.stat(path).st_ino)
    return found


def end_marked(mark: str) -> list[int]:
    """Kill the processes that carry a mark, one by one; the ids of those that are still there after that."""
    give_up_at = time.monotonic() + END_SECONDS
    while (left := marked(mark)) and time.monotonic() < give_up_at:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    return left
