"""SIGKILL at random moments of a loop that saves: a whole checkpoint is there each time, the last or the one begun."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from p2pdl.checkpoint.folder import CheckpointFolder
from tests.checkpoint.samples import arrays_of, assert_same, temporary_files
from tests.processes import ROOT

KILLS = 100
ELEMENTS = 500_000

SAVERS = f"""
import os, sys
from pathlib import Path
from p2pdl.checkpoint.folder import CheckpointFolder
from tests.checkpoint.samples import arrays_of
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
for line in sys.stdin:
    process = os.fork()
    if not process:
        say("process", os.getpid())
        folder = CheckpointFolder(Path(line.strip()))
        newest = folder.newest()
        step = newest.step if newest else 0
        while True:
            step += 1
            folder.save(step, {{"step": step}}, arrays_of(step, {ELEMENTS}))
            say("saved", step)
    os.waitpid(process, 0)
    say("ended")
"""
"""Starts a process that saves for each line it reads: Python and numpy are loaded once for all of them."""


def test_kill_at_a_random_moment_costs_one_save_at_most_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    folder = CheckpointFolder(tmp_path)
    killed_while_writing = last = 0
    with Savers() as savers:
        for _ in range(KILLS):
            savers.start(tmp_path)
            for _ in range(rng.randrange(3)):
                last = savers.next_save()
            # No wait for anything: the moment is meant to be any, within about two saves.
            time.sleep(rng.uniform(0.0, 0.02))
            last = savers.kill() or last
            killed_while_writing += len(temporary_files(tmp_path)) > 0
            folder = CheckpointFolder(tmp_path)
            assert temporary_files(tmp_path) == []
            newest = folder.newest()
            if newest is None:
                assert last == 0
                continue
            assert last <= newest.step <= last + 1
            assert newest.header == {"step": newest.step}
            assert_same(newest.arrays, arrays_of(newest.step, ELEMENTS))
            last = newest.step
    print(f"{killed_while_writing} of {KILLS} kills left a half-written file, {last} saves")
    assert killed_while_writing > KILLS // 10 and last > KILLS // 2


class Savers:
    """The processes that save, one at a time."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-c", SAVERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        self._process: int | None = None

    def __enter__(self) -> Savers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
        self._parent.communicate(timeout=20)

    def start(self, folder: Path) -> None:
        """Start the next one."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(f"{folder}\n")
        self._parent.stdin.flush()
        self._process = self._next("process")

    def next_save(self) -> int:
        """The step of its next save, when that has returned."""
        return self._next("saved")

    def kill(self) -> int | None:
        """Kill it; the step of its last save, if it did any more."""
        assert self._process is not None
        os.kill(self._process, signal.SIGKILL)
        last = None
        while (line := self._line()) != ["ended"]:
            last = int(line[1])
        self._process = None
        return last

    def _next(self, word: str) -> int:
        line = self._line()
        assert line[:1] == [word], f"{line} where {word!r} was expected"
        return int(line[1])

    def _line(self) -> list[str]:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline().split()
