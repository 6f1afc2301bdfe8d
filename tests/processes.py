"""Real processes for tests: started on free ports, watched with deadlines, always ended by their id."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pdl.server.process import ServerSettings

ROOT = Path(__file__).parents[1]
READY_SECONDS = 20.0
"""Far more than a server needs, so that a busy machine is no failure."""


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Look again and again until the condition holds; False if it still does not after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= give_up_at:
            return bool(condition())
        time.sleep(0.005)
    return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing, as if it had as many files and connections open as it may."""
    lowest_free = os.dup(0)
    os.close(lowest_free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with contextlib.suppress(OSError):
            os.close(os.dup(0))
            raise AssertionError("this process may open files still")
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def children() -> set[int]:
    """Ids of this process' children, ended but unreaped ones included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    return {pid for pid in _every_pid() if _parent(pid) == os.getpid()}


def end(pid: int) -> None:
    """Kill a child and reap it."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended; a stopped one has not."""
    return _stat(pid)[0] not in ("", "Z", "X")


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has taken effect on a process."""
    return _stat(pid)[0] == "T"


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Resident memory of a process in MiB: its peak, or now with `VmRSS`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


@dataclass
class ServerProcess:
    """A real server of a node, as its supervisor would start it.

    Attributes:
        address: `host:port` where it listens.
        process: The process.
        ready: The line it wrote when it was ready; empty text means that it listens.
        seconds: Time from start to that line.
        lifeline: The end of the pipe whose closing ends the server.
    """

    address: str
    process: subprocess.Popen[bytes]
    ready: str
    seconds: float
    lifeline: int

    def cut_lifeline(self) -> None:
        """Close the supervisor's end of the pipe."""
        os.close(self.lifeline)
        self.lifeline = -1

    def wait(self, seconds: float = 10.0) -> int:
        """The exit code, negative for a signal."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.lifeline >= 0:
            self.cut_lifeline()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def server(
    store: int,
    *,
    address: str = "",
    cluster: str = "lab",
    node: str = "alpha",
    log: Path | str = "",
    keys: Path | str = "",
) -> Iterator[ServerProcess]:
    """Run `python -m p2pdl.server` over a store and wait until it says that it is ready, or why it is not.

    Args:
        store: Descriptor of the store.
        address: Where to listen; a free port of 127.0.0.1 if empty.
        cluster: The node's cluster.
        node: The node's name.
        log: Its log file.
        keys: The folder of the keys, if it lets only their owners in.
    """
    address = address or f"127.0.0.1:{free_port()}"
    lifeline, writing_end = os.pipe()
    reading_end, ready = os.pipe()
    settings = ServerSettings(cluster, node, address, store, lifeline, ready, str(log), keys=str(keys))
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pdl.server", settings.to_argument()],
        pass_fds=(store, lifeline, ready),
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
    )
    os.close(lifeline)
    os.close(ready)
    running = ServerProcess(address, process, "", 0.0, writing_end)
    try:
        running.ready = _line(reading_end)
        running.seconds = time.monotonic() - started
        yield running
    finally:
        os.close(reading_end)
        running.end()


def _line(descriptor: int) -> str:
    """What comes through a pipe until its other end is closed."""
    text = b""
    while select.select([descriptor], [], [], READY_SECONDS)[0]:
        part = os.read(descriptor, 4096)
        if not part:
            return text.decode().removesuffix("\n")
        text += part
    raise TimeoutError(f"the server said nothing for {READY_SECONDS:g} s")


def _every_pid() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()] if sys.platform == "linux" else []


def _parent(pid: int) -> int:
    return _stat(pid)[1]


def _stat(pid: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[1])
