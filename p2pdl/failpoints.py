"""Named places at which a test lets a process die, fail or wait; nothing happens at any of them unless switched on."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import time
from collections.abc import Callable

from p2pdl.errors import StartupError

VARIABLE = "P2PDL_FAILPOINTS"
"""Environment variable that switches failpoints on: `name=action;name=action`.

Actions are `kill` (SIGKILL to the own process), `raise` (a RuntimeError), `enospc` (the disk is full),
`sleep:SECONDS`, and, at places of `TIMED`, `pad:SECONDS`: to wait until what has been done took so long, as on a slower
machine. With `*N` behind it an action is taken at the N-th hit only.
"""

NAMES = {
    "checkpoint.before-write": "the temporary file is there and empty",
    "checkpoint.before-array": "one more array is about to be written; hit once for each",
    "checkpoint.before-header": "all arrays are written, the header is not",
    "checkpoint.before-sync": "the file is whole, but perhaps not yet on the disk",
    "checkpoint.before-rename": "the file is whole and on the disk, under its temporary name",
    "checkpoint.before-folder-sync": "the file has its name, but perhaps not yet on the disk",
    "checkpoint.before-removal": "the file is safe, the ones that it makes superfluous are still there",
    "store.half-published": "a new version's weights and number are written, their digests are not",
    "trainer.step": "a step has been computed, and nothing of it exchanged",
    "trainer.evaluate": "one more batch of an evaluation between steps has been computed; hit once for each",
}
"""Every failpoint, and where the code is when it is hit."""

TIMED = {"trainer.step"}
"""Those that say since when the code has been at what ends there."""

_SWITCH = re.compile(r"([^=]+)=(?:(kill|raise|enospc)|(sleep|pad):(\d+(?:\.\d+)?))(?:\*([1-9]\d*))?", re.ASCII)

Action = Callable[[float], None]
"""Does something, given the moment since when; time.monotonic() where the place says none."""


class _Failpoint:
    """What happens at one name, and at which of its hits."""

    def __init__(self, act: Action, only_hit: int | None) -> None:
        self._act = act
        self._only_hit = only_hit
        self._hits = itertools.count(1)

    def hit(self, since: float) -> None:
        if next(self._hits) == self._only_hit or self._only_hit is None:
            self._act(since)


_switched_on: dict[str, _Failpoint] = {}


def reach(name: str, since: float | None = None) -> None:
    """Do what is switched on for this place; one look-up in a dictionary where nothing is.

    Args:
        name: One of `NAMES`.
        since: For one of `TIMED`, seconds of the machine's monotonic clock when what ends here began.
    """
    failpoint = _switched_on.get(name)
    if failpoint is not None:
        failpoint.hit(time.monotonic() if since is None else since)


def switch(text: str) -> None:
    """Replace what is switched on in this process; hits are counted from 1 again.

    Args:
        text: As in `VARIABLE`; empty switches everything off.

    Raises:
        StartupError: A name or an action is unknown, or a name stands twice.
    """
    found: dict[str, _Failpoint] = {}
    for part in filter(None, text.split(";")):
        match = _SWITCH.fullmatch(part)
        if match is None:
            raise StartupError(
                f"{VARIABLE}: {part!r} is no failpoint with an action",
                "write name=kill, =raise, =enospc, =sleep:SECONDS or =pad:SECONDS, with *N behind it for one hit only",
            )
        name, word, waits, seconds, only_hit = match.groups()
        if name not in NAMES:
            raise StartupError(f"{VARIABLE}: there is no failpoint {name!r}", f"choose from {', '.join(sorted(NAMES))}")
        if name in found:
            raise StartupError(f"{VARIABLE}: the failpoint {name} stands twice", "give it one action")
        if waits == "pad" and name not in TIMED:
            raise StartupError(f"{VARIABLE}: {name} has no length that could be padded", "write sleep in place of pad")
        found[name] = _Failpoint(_action(name, word or waits, seconds), int(only_hit) if only_hit else None)
    _switched_on.clear()
    _switched_on.update(found)


def _action(name: str, word: str, seconds: str | None) -> Action:
    def kill(since: float) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(since: float) -> None:
        raise RuntimeError(f"the failpoint {name} is switched on")

    def refuse_space(since: float) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sleep(since: float) -> None:
        time.sleep(length)

    def pad(since: float) -> None:
        time.sleep(max(0.0, since + length - time.monotonic()))

    length = float(seconds or 0.0)
    return {"kill": kill, "raise": fail, "enospc": refuse_space, "sleep": sleep, "pad": pad}[word]


switch(os.environ.get(VARIABLE, ""))
