"""A function of the benchmark in a process of its own, which does what it is asked, one thing after another."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from p2pdl.errors import ProcessDied
from p2pdl.node.children import Lifeline, trainer_environment

ROOT = Path(__file__).parents[2]

END_SECONDS = 20.0
"""How long a worker may take to end its own workers and servers."""


class Worker:
    """Runs a role until the end of the context; the other end is `role.py`.

    Like the processes of a node it stays in the session of whoever started it, in a process group of its own: it gets
    its share of the processor, and Ctrl-C reaches the first process alone, which ends the others.

    Args:
        role: A function of this package. It answers orders with `role.orders` and `role.answer`, and returns at the
            end of the orders.
        log: A file that takes what it and those that it starts write to standard error; this process's own where None.
        settings: Its arguments, which JSON can carry.

    Attributes:
        process: Its id.
    """

    def __init__(self, role: Callable[..., None], log: IO[bytes] | None = None, **settings: Any) -> None:
        self._name = f"{role.__module__}:{role.__name__}"
        self._lifeline = Lifeline()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.benchmarks.role"),
                json.dumps([self._name, self._lifeline.reading, settings]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=[self._lifeline.reading],
            process_group=0,
            cwd=ROOT,
            env=trainer_environment(threads=0),
        )
        self.process = self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """End it: by the end of its orders, after an error here by SIGTERM, and by force if that does not help."""
        if kind is not None:
            self._process.terminate()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._lifeline.close()

    def ask(self, what: str) -> dict[str, Any]:
        """Let it do one thing, and wait for what it says of that."""
        self.tell(what)
        return self.answer()

    def tell(self, what: str) -> None:
        """Let it begin one thing."""
        with contextlib.suppress(BrokenPipeError):  # Its missing answer says more.
            print(what, file=self._process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """Wait for what it says of the thing that it was told.

        Raises:
            ProcessDied: It has ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ProcessDied(f"the process of {self._name} has ended early", "see above what it has written")
        said: dict[str, Any] = json.loads(line)
        return said
