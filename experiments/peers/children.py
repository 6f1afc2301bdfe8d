"""The processes of one run: started together, watched, and ended together however the run ends."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from p2pdl.errors import ProcessDied
from p2pdl.node.children import Lifeline
from p2pdl.node.restarts import how_it_ended

WATCH_SECONDS = 0.05
END_SECONDS = 60.0
"""How long children may take to end in order; `p2pdl up` has its nodes end first."""

LAST_CHARACTERS = 3000


Spawn = Callable[..., "subprocess.Popen[bytes]"]


def _on_this_machine(name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, **options)


class Children:
    """Processes that end with this one; a context manager at whose end none is left.

    Args:
        folder: Where their logs go.
        spawn: Starts a process, given the command, the name and what `subprocess.Popen` takes.
    """

    def __init__(self, folder: Path, spawn: Spawn = _on_this_machine) -> None:
        self._folder = folder
        self._spawn = spawn
        self._lifeline = Lifeline()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        give_up_at = time.monotonic() + END_SECONDS
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, give_up_at - time.monotonic()))
            process.kill()
            process.wait()
        self._lifeline.close()

    def start(self, name: str, command: Callable[[int], Sequence[str]], environment: Mapping[str, str]) -> None:
        """Start a process.

        Args:
            name: Of the process and its log.
            command: Makes the command line, given the lifeline's reading end.
            environment: All of its environment.
        """
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = self._spawn(
                name,
                list(command(self._lifeline.reading)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lifeline.reading],
                env=dict(environment),
                # Ctrl-C of the terminal comes to this process alone, which then ends the others.
                process_group=0,
            )

    def wait(self, names: Collection[str], seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until some have ended well; the others must not end meanwhile.

        Args:
            names: Those that end by themselves.
            seconds: How long they may take.
            meanwhile: Called over and over.

        Raises:
            ProcessDied: One has failed or ended too early, or they take too long.
        """
        give_up_at = time.monotonic() + seconds
        while True:
            codes = {name: process.poll() for name, process in self._processes.items()}
            for name, code in codes.items():
                if code or (code == 0 and name not in names):
                    raise ProcessDied(
                        f"the process {name} has ended too early ({how_it_ended(code)}); it said:\n{self.log(name)}",
                        "what it said tells the reason; if a port was taken or memory was short, run it again",
                    )
            if all(codes[name] == 0 for name in names):
                return
            if time.monotonic() > give_up_at:
                slow = next(name for name in names if codes[name] is None)
                raise ProcessDied(
                    f"the process {slow} has not ended within {seconds:.0f} s; it said:\n{self.log(slow)}",
                    "give it more time with --limit, or less to do",
                )
            meanwhile()
            time.sleep(WATCH_SECONDS)

    def log(self, name: str) -> str:
        """The last of what a process has said."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-LAST_CHARACTERS:]
