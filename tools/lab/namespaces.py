"""Hosts that are network namespaces: their links are the kernel's, and hold for everything that they send."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from experiments.network import ShapedNetwork, has_netem
from p2pdl.errors import StartupError
from tools.lab import marks
from tools.lab.contract import PORT, Line

ROOT = Path(__file__).parents[2]


class NamespaceLab:
    """Hosts on a bridge, for root on Linux; see `Lab`.

    Where the kernel cannot let packets be late, a relay on the host does: what others send to its address passes over
    it, and it listens elsewhere itself. Connections that the host makes are then not late.

    Args:
        lines: How each host is connected.
    """

    link = "namespaces"

    def __init__(self, lines: Sequence[Line]) -> None:
        self.hosts = len(lines)
        self.latency_by = ""
        self._lines = list(lines)
        self._network = ShapedNetwork(self.hosts)

    def __enter__(self) -> NamespaceLab:
        """Make the network; see `Lab`."""
        marks.end_leftovers()
        self._network.__enter__()
        try:
            if any(line.milliseconds for line in self._lines):
                self.latency_by = "netem" if has_netem() else "proxy"
            for host, line in enumerate(self._lines):
                self.shape(host, line.mbit)
                if line.milliseconds and self.latency_by == "netem":
                    self._network.delay(line.milliseconds, [host])
            self._start_relays()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything, and remove the network."""
        try:
            marks.end_own()
        finally:
            self._network.__exit__(kind, error, trace)

    def address(self, host: int) -> str:
        """See `Lab`."""
        return f"{self._network.address(host)}:{PORT}"

    def bind(self, host: int) -> str:
        """See `Lab`."""
        return f"{self._network.address(host)}:{PORT + self._has_relay(host)}"

    def run(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """See `Lab`."""
        environment = {**(options.pop("env", None) or os.environ), marks.MARK: marks.mark()}
        return self._network.run(host, command, env=environment, **options)

    def shape(self, host: int, mbit: float | None) -> None:
        """See `Lab`."""
        self._network.shape(mbit, [host])

    def _has_relay(self, host: int) -> bool:
        return self.latency_by == "proxy" and self._lines[host].milliseconds > 0

    def _start_relays(self) -> None:
        relays = {}
        for host in filter(self._has_relay, range(self.hosts)):
            command = [sys.executable, "-m", "tools.faults", "--target", self.bind(host), "--listen"]
            command += [self.address(host), "--latency", str(self._lines[host].milliseconds / 1e3)]
            relays[host] = self.run(
                host,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
                process_group=0,
            )
        for host, relay in relays.items():
            assert relay.stdout is not None
            with relay.stdout:
                if not (said := relay.stdout.readline()).startswith("listening"):
                    raise StartupError(f"the relay that makes host {host} late has not begun: {said.strip()}")
