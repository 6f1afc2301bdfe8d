"""Whose a process is: each one of a laboratory carries a mark, and is found by it, also by the next laboratory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from p2pdl.errors import ProcessDied

MARK = "P2PDL_NETLAB"
"""Environment variable that every process of a laboratory inherits: what is ended is only what was started here."""

END_SECONDS = 20.0
"""How long the kernel may take to end a process that was killed, on a busy machine."""


def mark() -> str:
    """The mark of this process' laboratories: where its id counts, the id, and when it began, since ids come back."""
    return f"{_space()}-{os.getpid()}-{_began(os.getpid())}"


def marked() -> dict[int, str]:
    """Ids of all processes that carry a mark, whosever, and have not ended; and what it is."""
    start = f"{MARK}=".encode()
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc") if Path("/proc").is_dir() else []):
        with contextlib.suppress(OSError):
            # Of a process that has ended and was not waited for, the environment is empty.
            for entry in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                if entry.startswith(start):
                    found[int(name)] = entry[len(start) :].decode(errors="replace")
    return found


def end_own() -> None:
    """Kill every process that carries this process' mark.

    Raises:
        ProcessDied: One of them does not end.
    """
    own = mark()
    _end(lambda owner: owner == own)


def end_leftovers() -> None:
    """Kill what laboratories left that were killed themselves.

    Raises:
        ProcessDied: One of them does not end.
    """
    _end(_is_dead)


def _end(belongs: Callable[[str], bool]) -> None:
    give_up_at = time.monotonic() + END_SECONDS
    while left := [process for process, owner in marked().items() if process != os.getpid() and belongs(owner)]:
        if time.monotonic() > give_up_at:
            raise ProcessDied(f"processes {left} of a laboratory do not end", "look what they wait for")
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _is_dead(owner: str) -> bool:
    space, process, began = (*owner.split("-"), "", "")[:3]
    # Of a process in a container it is not known here whether it is alive.
    return space == _space() and process.isdecimal() and began.isdecimal() and _began(int(process)) != int(began)


def _space() -> str:
    """The number of the namespace in which ids of processes count; empty where there are none."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _began(process: int) -> int:
    """When a process began, in ticks since the machine did; 0 if there is none."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    return 0
