"""The laboratory: each link gives what was asked for, whatever it is made of, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from experiments.network import NAMESPACES
from p2pdl.errors import StartupError
from tests.processes import is_running, wait_until
from tools.lab import marks, namespaces
from tools.lab.contract import Lab, Line
from tools.lab.measuring import measure
from tools.lab.namespaces import NamespaceLab
from tools.lab.proxies import ProxyLab

ATTEMPTS = 4
"""A machine that others use may be too late for a transfer; it is not in several of them."""

Kind = Callable[[Sequence[Line]], Lab]
both_kinds = pytest.mark.parametrize(
    "kind", [pytest.param(NamespaceLab, marks=pytest.mark.root), pytest.param(ProxyLab)], ids=["namespaces", "proxy"]
)


def names() -> set[str]:
    """The namespaces that this process has made."""
    listed = os.listdir(NAMESPACES) if NAMESPACES.is_dir() else []
    return {name for name in listed if name.startswith(f"p2pdl-{os.getpid()}-")}


def gives(lab: Lab, lines: Sequence[Line], host: int) -> bool:
    """Whether a link carries within a tenth of its rate, in both directions and in one measurement."""
    other = (host + 1) % lab.hosts
    wanted = lines[host].mbit
    assert wanted is not None
    for _ in range(ATTEMPTS):
        found = measure(lab, host, wanted, other, lines[other].mbit)
        print(host, wanted, found)
        if all(0.9 * wanted <= mbit <= 1.1 * wanted for mbit in (found.out_mbit, found.in_mbit)):
            assert found.is_near(wanted) and not found.is_near(2 * wanted)
            return True
    return False


@both_kinds
def test_slow_link_is_slow_and_its_neighbour_is_not(kind: Kind) -> None:
    with kind([Line(10), Line()]) as lab:
        slow, fast = measure(lab, 0, 10, 1, None), measure(lab, 1, None, 0, 10)
        assert 5 * max(slow.out_mbit, slow.in_mbit) < fast.in_mbit
    assert names() == set()


@pytest.mark.slow
@both_kinds
def test_each_link_gives_its_own_rate(kind: Kind) -> None:
    lines = [Line(60), Line(15), Line()]
    with kind(lines) as lab:
        assert gives(lab, lines, 0) and gives(lab, lines, 1)
        assert measure(lab, 2, None, 0, 60).in_mbit > 100
        lab.shape(1, 30)
        lines[1] = Line(30)
        assert gives(lab, lines, 1)
    assert names() == set()


@pytest.mark.slow
@both_kinds
def test_late_host_is_late_both_ways_and_others_are_not(kind: Kind) -> None:
    with kind([Line(100, 25), Line(100)]) as lab:
        assert lab.latency_by in ("netem", "proxy")
        assert 50 <= measure(lab, 0, 10, 1, 100).round_trip_ms < 100
        assert measure(lab, 1, 100, 0, 100).round_trip_ms < 50 or lab.latency_by == "netem"
        assert lab.bind(0) != lab.address(0) or lab.latency_by == "netem"


@pytest.mark.root
def test_kernel_that_can_is_asked_to_let_packets_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, list[int]]] = []
    monkeypatch.setattr(namespaces, "has_netem", lambda: True)
    monkeypatch.setattr(
        "experiments.network.ShapedNetwork.delay", lambda self, late, hosts: asked.append((late, hosts))
    )
    with NamespaceLab([Line(100), Line(100, 25)]) as lab:
        assert lab.latency_by == "netem" and asked == [(25, [1])]
        assert lab.bind(1) == lab.address(1)


@both_kinds
def test_lab_says_where_hosts_are_and_that_a_command_is_none(kind: Kind) -> None:
    with kind([Line(), Line()]) as lab:
        assert len({lab.address(0), lab.address(1)}) == 2 and lab.latency_by == ""
        with pytest.raises(StartupError, match="no command p2pdl-nothing"):
            lab.run(0, ["p2pdl-nothing"])


@both_kinds
def test_all_that_commands_have_started_ends_with_the_lab(kind: Kind) -> None:
    with kind([Line(), Line()]) as lab:
        # A session of its own: it belongs to no group that could be ended at once.
        command = ["bash", "-c", "setsid sleep 1000 & echo $!; wait"]
        process = lab.run(1, command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        assert wait_until(lambda: marks.marked().get(grandchild) == marks.mark(), 10)
    process.stdout.close()
    assert not is_running(grandchild) and process.returncode == -signal.SIGKILL
    assert names() == set()


def test_half_made_lab_of_proxies_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    places = iter(["20001"])
    monkeypatch.setattr("tools.lab.proxies._free_port", lambda taken: int(next(places)))
    with pytest.raises(StopIteration), ProxyLab([Line(), Line()]):
        pytest.fail("was made")


def test_ports_of_hosts_are_free_and_different() -> None:
    with ProxyLab([Line()] * 20) as lab:
        ports = {int(lab.bind(host).rpartition(":")[2]) for host in range(20)}
        assert len(ports) == 20
        for port in ports:
            socket.create_server(("127.0.0.1", port)).close()


def test_process_of_a_lab_that_is_dead_is_a_leftover_and_others_are_not(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", ""])
    owner.wait()
    own = marks.mark()
    here = own.split("-")[0]
    # The first id is of a process that has ended, the second one of this process had it begun at another time; the
    # third one counts in another container.
    kinds = {f"{here}-{owner.pid}-5": False, f"{here}-{os.getpid()}-1": False, f"1-{owner.pid}-5": True}
    kinds |= {own: True, "something": True}
    started = {}
    try:
        for mark in kinds:
            environment = {**os.environ, marks.MARK: mark}
            started[mark] = subprocess.Popen(["sleep", "1000"], env=environment)
        assert wait_until(lambda: {process.pid for process in started.values()} <= marks.marked().keys(), 10)
        marks.end_leftovers()
        assert {mark: is_running(process.pid) for mark, process in started.items()} == kinds
        marks.end_own()
        assert not is_running(started[own].pid) and is_running(started["something"].pid)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
