"""Hosts on one machine, each on a link of a chosen speed: network namespaces, veth pairs, a bridge, `tc`.

Everything lies in namespaces of its own, so that removing those removes everything, and the machine's own network is
never touched. It needs Linux, root, and the commands `ip` and `tc`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from p2pdl.errors import StartupError

NAMESPACES = Path("/run/netns")
"""Where `ip netns` keeps the names."""

SMALLEST_BURST = 80_000
"""Bytes: a packet that the kernel has put together from segments, 64 KiB and its headers, has to fit in."""

BURST_SECONDS = 0.001
"""Length of a burst at the link's rate: late timers cost nothing, and a short transfer is hardly favoured."""

QUEUE_SECONDS = 0.05
"""How long a packet may wait for the link before it is dropped: far longer than TCP needs to keep the link busy."""

QUEUE = "7d1"
"""Handle of the queues made here, by which they are told from others."""

PACKET_BYTES = 1500
"""Of one packet on an Ethernet."""

MOST_PACKETS = 100_000
"""That a link without a rate keeps back while they are late."""

_NAME = re.compile(r"p2pdl-(\d+)-\d+-")


class ShapedNetwork:
    """Some hosts on one switch, as a context manager.

    One TCP stream gets 0.956 of a link's rate as payload, which is what the headers leave of an Ethernet. Links are
    limited in each direction on its own. Entering removes what processes that are dead left behind; leaving kills what
    `run` has started and removes every namespace, also after an error.

    Args:
        hosts: How many hosts, numbered from 0.
        mbit: Rate of every link in millions of bits a second; None for no limit.
        subnet: IPv4 network of the hosts' addresses, which are its first ones.
    """

    def __init__(self, hosts: int, mbit: float | None = None, subnet: str = "10.77.0.0/24") -> None:
        self._subnet = ipaddress.IPv4Network(subnet)
        if not 1 <= hosts <= self._subnet.num_addresses - 2:
            raise ValueError(f"{subnet} has no room for {hosts} hosts, or there are none")
        self.hosts = hosts
        self._rates = [mbit] * hosts
        self._delays = [0.0] * hosts
        self._prefix = ""
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> ShapedNetwork:
        """Make the network.

        Raises:
            StartupError: It cannot be made on this machine.
        """
        if reason := available():
            raise StartupError(
                f"a network of shaped links cannot be made here: {reason}",
                "run it as root on Linux, with the commands ip and tc (package iproute2)",
            )
        _remove_leftovers()
        self._prefix = _unused_prefix()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs and remove the network."""
        self._remove()

    def address(self, host: int) -> str:
        """The IPv4 address of a host."""
        return str(self._subnet[1 + self._checked(host)])

    def namespace(self, host: int) -> str:
        """The name of a host's namespace, as `ip netns` lists it."""
        return f"{self._prefix}{self._checked(host)}"

    def run(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command on a host.

        Args:
            host: Where.
            command: The program and its arguments.
            options: Those of `subprocess.Popen`; `pass_fds` works as usual.

        Returns:
            The command's own process: `ip` puts the command in its place.

        Raises:
            StartupError: There is no such command.
        """
        if shutil.which(command[0]) is None:
            raise StartupError(f"there is no command {command[0]} to run on host {host}", "install it")
        process = subprocess.Popen(["ip", "netns", "exec", self.namespace(host), *command], **options)
        self._processes.append(process)
        return process

    def shape(self, mbit: float | None, hosts: Iterable[int] | None = None) -> None:
        """Give links another rate, from now on; connections go on.

        Args:
            mbit: Millions of bits a second in each direction; None for no limit.
            hosts: Whose links; None for all.

        Raises:
            StartupError: The kernel refuses it.
            ValueError: The rate is not above zero, or there is no such host.
        """
        if mbit is not None and mbit <= 0:
            raise ValueError(f"a rate of {mbit:g} Mbit/s is none")
        for host in range(self.hosts) if hosts is None else hosts:
            self._rates[self._checked(host)] = mbit
            self._queue(host)

    def delay(self, milliseconds: float, hosts: Iterable[int] | None = None) -> None:
        """Let packets be late on links, from now on, in each direction.

        Args:
            milliseconds: How late; 0 for not at all.
            hosts: Whose links; None for all.

        Raises:
            StartupError: The kernel refuses it, as one without `sch_netem` does: see `has_netem`.
            ValueError: It is below zero, or there is no such host.
        """
        if milliseconds < 0:
            raise ValueError(f"packets cannot be {milliseconds:g} ms late")
        for host in range(self.hosts) if hosts is None else hosts:
            self._delays[self._checked(host)] = milliseconds
            self._queue(host, anew=True)

    def _queue(self, host: int, *, anew: bool = False) -> None:
        """Let both ends of a host's link be as they were asked for; a queue becomes one of another kind only anew."""
        for namespace, device in ((self.namespace(host), "eth0"), (self._switch, f"port{host}")):
            lines = queues(device, self._rates[host], self._delays[host])
            if anew or self._delays[host] or not lines:
                # `noqueue` is what such a device has from the start.
                lines = [["qdisc", "replace", "dev", device, "root", "noqueue"], *lines]
            for line in lines:
                _do("tc", "-n", namespace, *line)

    @property
    def _switch(self) -> str:
        return f"{self._prefix}switch"

    def _make(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for host in range(self.hosts):
            self._make_host(host)
        for host, mbit in enumerate(self._rates):
            if mbit is not None:
                self._queue(host)

    def _make_host(self, host: int) -> None:
        inside, port = self.namespace(host), f"port{host}"
        _ip("netns", "add", inside)
        _ip("-n", inside, "link", "set", "lo", "up")
        # Both ends are made where they belong: not even for a moment is there a device outside.
        _ip("-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", inside)
        _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", inside, "address", "add", f"{self.address(host)}/{self._subnet.prefixlen}", "dev", "eth0")
        _ip("-n", inside, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()
        # The stack goes on to the next one where one fails, and raises afterwards.
        with contextlib.ExitStack() as stack:
            for name in _names():
                if (match := _NAME.match(name)) and match[0] == self._prefix:
                    stack.callback(_ip, "netns", "delete", name)

    def _checked(self, host: int) -> int:
        if not 0 <= host < self.hosts:
            raise ValueError(f"there is no host {host} among {self.hosts}")
        return host


def available() -> str:
    """Why no such network can be made here; empty if it can."""
    if sys.platform != "linux":
        return "this is not Linux"
    if os.geteuid() != 0:
        return "not root"
    for command in ("ip", "tc"):
        if shutil.which(command) is None:
            return f"there is no command {command}"
    name = f"{_unused_prefix()}trial"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except StartupError as error:
        return error.message
    return ""


def has_netem() -> bool:
    """Whether the kernel can let packets be late.

    Raises:
        StartupError: No network can be made here at all.
    """
    name = f"{_unused_prefix()}trial"
    _ip("netns", "add", name)
    try:
        _do("tc", "-n", name, *queues("lo", None, 1.0)[0])
    except StartupError:
        return False
    finally:
        _ip("netns", "delete", name)
    return True


def queues(device: str, mbit: float | None, milliseconds: float = 0.0) -> list[list[str]]:
    """The arguments of `tc`, line by line, that limit what a device sends, and let it be late.

    Args:
        device: Its name.
        mbit: Millions of bits a second; None for no limit.
        milliseconds: How late each packet is.
    """
    parent, lines = ["root", "handle", f"{QUEUE}:"], []
    if milliseconds:
        # All that is on its way at once has to fit in.
        late = MOST_PACKETS if mbit is None else 1000 + round(1e3 * mbit * milliseconds / 8 / PACKET_BYTES)
        lines.append(["qdisc", "replace", "dev", device, *parent, "netem", "delay", f"{milliseconds:g}ms"])
        lines[0] += ["limit", str(min(late, MOST_PACKETS))]
        parent = ["parent", f"{QUEUE}:1"]
    if mbit is not None:
        burst = max(SMALLEST_BURST, round(mbit * 1e6 / 8 * BURST_SECONDS))
        lines.append(["qdisc", "replace", "dev", device, *parent, "tbf", "rate", f"{round(mbit * 1e6)}bit"])
        lines[-1] += ["burst", f"{burst}b", "latency", f"{round(QUEUE_SECONDS * 1e3)}ms"]
    return lines


def _remove_leftovers() -> None:
    """Remove the namespaces of processes that are dead, which were killed before they could."""
    for name in _names():
        match = _NAME.match(name)
        if match and not Path("/proc", match[1]).exists():
            # Another process may be removing the same one: what counts is that it is gone.
            with contextlib.suppress(StartupError):
                _ip("netns", "delete", name)


def _unused_prefix() -> str:
    """A beginning of names that no namespace has."""
    taken = {match[0] for match in map(_NAME.match, _names()) if match}
    return next(p for n in itertools.count() if (p := f"p2pdl-{os.getpid()}-{n}-") not in taken)


def _names() -> list[str]:
    return sorted(os.listdir(NAMESPACES)) if NAMESPACES.is_dir() else []


def _ip(*arguments: str) -> None:
    _do("ip", *arguments)


def _do(*command: str) -> None:
    """Run a command to its end.

    Raises:
        StartupError: It failed.
    """
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise StartupError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}",
            "this needs root's full rights, and a kernel with network namespaces, veth, bridge and the queue tbf",
        )
