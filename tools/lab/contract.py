"""What a laboratory of hosts is, whatever its links are made of."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

PORT = 7101
"""Where the hosts of a network of their own listen."""


@dataclass(frozen=True, slots=True)
class Line:
    """How a host is connected, the same in both directions.

    Attributes:
        mbit: Millions of bits a second; None for no limit.
        milliseconds: How late everything is.
    """

    mbit: float | None = None
    milliseconds: float = 0.0


class Lab(Protocol):
    """Hosts, numbered from 0, as a context manager that leaves nothing behind.

    Attributes:
        link: What limits the rates: `namespaces` or `proxy`.
        latency_by: What makes things late: `netem` or `proxy`; empty where nothing does.
        hosts: How many hosts.
    """

    link: str
    latency_by: str
    hosts: int

    def __enter__(self) -> Lab:
        """Make the hosts and their links.

        Raises:
            StartupError: They cannot be made on this machine.
        """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that runs, and remove the hosts."""

    def address(self, host: int) -> str:
        """`host:port` at which others reach what the host offers."""

    def bind(self, host: int) -> str:
        """`host:port` where the host itself has to listen."""

    def run(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command on a host; the options are those of `subprocess.Popen`.

        Raises:
            StartupError: There is no such command.
        """

    def shape(self, host: int, mbit: float | None) -> None:
        """Give a host's link another rate, both ways, from now on; None for no limit."""
