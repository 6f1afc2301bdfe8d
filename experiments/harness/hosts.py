"""Where the nodes of a run are: this machine's loopback, or hosts on links of chosen rates."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from experiments.ports import free_ports
from p2pdl.errors import StartupError
from p2pdl.types import JsonObject
from tools.lab.choice import lab_for
from tools.lab.contract import Lab, Line
from tools.lab.measuring import measure

ALL = "all"


class Hosts:
    """A host for each name; a context manager at whose end nothing is left.

    Args:
        names: Of the hosts.
        links: Mbit/s of some of their links, by name or as `all`; None for no network but the loopback.

    Raises:
        StartupError: There is no host of that name.
    """

    def __init__(self, names: Sequence[str], links: Mapping[str, float] | None) -> None:
        self._names = list(names)
        self._lab: Lab | None = None
        self._ports: list[int] = []
        self._reason = ""
        self._rates: dict[str, float] = {}
        if links is None:
            return
        if unknown := set(links) - {ALL, *names}:
            raise StartupError(f"there is no host {min(unknown)!r}", f"the hosts are {', '.join(names)}")
        given = {name: links.get(name, links.get(ALL)) for name in names}
        self._rates = {name: rate for name, rate in given.items() if rate is not None}
        self._lab, self._reason = lab_for([Line(given[name]) for name in names])

    def __enter__(self) -> Hosts:
        if self._lab is not None:
            self._lab.__enter__()
        else:
            self._ports = free_ports(len(self._names))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lab is not None:
            self._lab.__exit__(kind, error, trace)

    def facts(self, say: Callable[[float | None, str], None], measured: bool) -> JsonObject:
        """What the links are made of and what they really give; one host of each rate is measured.

        Args:
            say: Told what is going on.
            measured: False to leave the measurements out, each of which takes some seconds.
        """
        if self._lab is None:
            return {"link": "loopback"}
        found: JsonObject = {"link": self._lab.link}
        if self._reason:
            found["link_reason"] = self._reason
        if not measured:
            return found
        rates = {}
        for rate in sorted(set(self._rates.values())):
            name = next(name for name in self._names if self._rates.get(name) == rate)
            other = next(other for other in self._names if other != name)
            say(None, f"measuring the link of {name}")
            given = measure(self._lab, self._names.index(name), rate, self._names.index(other), self._rates.get(other))
            rates[f"{rate:g}"] = {
                "out": round(given.out_mbit, 2),
                "in": round(given.in_mbit, 2),
                "is_near": given.is_near(rate),
            }
        return {**found, "mbit_measured": rates}

    def address(self, name: str) -> str:
        """`host:port` at which others reach what the host offers."""
        number = self._names.index(name)
        return f"127.0.0.1:{self._ports[number]}" if self._lab is None else self._lab.address(number)

    def bind(self, name: str) -> str:
        """`host:port` where the host itself has to listen."""
        return self.address(name) if self._lab is None else self._lab.bind(self._names.index(name))

    def run(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command on a host; the options are those of `subprocess.Popen`."""
        if self._lab is None:
            return subprocess.Popen(command, **options)
        return self._lab.run(self._names.index(name), command, **options)
