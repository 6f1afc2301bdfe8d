"""Hosts that are ports of this machine, for who is not root: a proxy before each one limits what passes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from p2pdl.errors import StartupError
from tools.faults import FaultProxy, Faults, Way
from tools.lab import marks
from tools.lab.contract import Line

PORTS = range(20_000, 30_000)
"""Where hosts listen: below the ports that the kernel gives to connections."""


class ProxyLab:
    """Hosts without a network of their own; see `Lab`.

    A host's rate and latency hold for the connections that others make to its address, both ways, and not for those
    that it makes itself. The rate is that of the payload.

    Args:
        lines: How each host is connected.
    """

    link = "proxy"

    def __init__(self, lines: Sequence[Line]) -> None:
        self.hosts = len(lines)
        self.latency_by = "proxy" if any(line.milliseconds for line in lines) else ""
        self._lines = list(lines)
        self._ports: list[int] = []
        self._proxies: list[FaultProxy] = []
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> ProxyLab:
        """Start the proxies; see `Lab`."""
        marks.end_leftovers()
        try:
            for line in self._lines:
                self._ports.append(_free_port(self._ports))
                way = Way(line.milliseconds / 1e3, _bytes_a_second(line.mbit))
                self._proxies.append(FaultProxy(f"127.0.0.1:{self._ports[-1]}", Faults(way, way)))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything, the proxies last."""
        with contextlib.ExitStack() as stack:
            for proxy in self._proxies:
                stack.callback(proxy.close)
            stack.callback(marks.end_own)
            for process in self._processes:
                process.kill()
                process.wait()

    def address(self, host: int) -> str:
        """See `Lab`."""
        return self._proxies[host].address

    def bind(self, host: int) -> str:
        """See `Lab`."""
        return f"127.0.0.1:{self._ports[host]}"

    def run(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """See `Lab`."""
        if shutil.which(command[0]) is None:
            raise StartupError(f"there is no command {command[0]} to run on host {host}", "install it")
        environment = {**(options.pop("env", None) or os.environ), marks.MARK: marks.mark()}
        process = subprocess.Popen(command, env=environment, **options)
        self._processes.append(process)
        return process

    def shape(self, host: int, mbit: float | None) -> None:
        """See `Lab`."""
        self._proxies[host].bandwidth(_bytes_a_second(mbit))


def _bytes_a_second(mbit: float | None) -> float:
    return float("inf") if mbit is None else mbit * 1e6 / 8


def _free_port(taken: Sequence[int]) -> int:
    """A port that nobody listens on, and that no connection gets by chance.

    Raises:
        StartupError: There is none.
    """
    for port in random.sample(PORTS, len(PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in taken:
                return port
    raise StartupError(f"no port from {PORTS[0]} to {PORTS[-1]} is free", "end some of what listens there")
