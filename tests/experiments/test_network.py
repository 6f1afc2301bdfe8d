"""The network of namespaces: its rates against those asked for, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments import network
from experiments.network import NAMESPACES, ShapedNetwork
from p2pdl.errors import StartupError

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(reason := network.available()), reason=reason or "-")]

MEGABYTES = 1_000_000

SENDER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7000))
print("listening", flush=True)
connection, _ = listener.accept()
while count := connection.recv(8):
    connection.sendall(bytes(int.from_bytes(count)))
"""
"""Sends as many bytes as it is asked for."""

RECEIVER = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 7000))
buffer = bytearray(1 << 20)
for line in sys.stdin:
    wanted = missing = int(line)
    started = time.perf_counter()
    connection.sendall(wanted.to_bytes(8))
    while missing:
        missing -= connection.recv_into(buffer)
    print(8e-6 * wanted / (time.perf_counter() - started), flush=True)
"""
"""Asks for as many bytes as each line says, and prints the Mbit/s at which they came."""


def names() -> set[str]:
    """Every namespace of this machine that has a name of ours."""
    return {name for name in os.listdir(NAMESPACES) if name.startswith("p2pdl-")} if NAMESPACES.is_dir() else set()


def own_names() -> set[str]:
    return {name for name in names() if name.startswith(f"p2pdl-{os.getpid()}-")}


def devices() -> set[str]:
    """The network devices outside the namespaces."""
    return set(os.listdir("/sys/class/net"))


def dead_process() -> int:
    """The id of a process that has ended and been reaped."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@contextlib.contextmanager
def transfer(joined: ShapedNetwork) -> Iterator[Callable[[int], float]]:
    """One TCP connection from host 0 to host 1: bytes to transfer in, Mbit/s out."""
    address = joined.address(0)
    with (
        joined.run(0, [sys.executable, "-c", SENDER, address], stdout=subprocess.PIPE, text=True) as sender,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(sender.kill)
        assert sender.stdout.readline() == "listening\n"
        command = [sys.executable, "-c", RECEIVER, address]
        receiver = stack.enter_context(joined.run(1, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

        def rate(count: int) -> float:
            print(count, file=receiver.stdin, flush=True)
            return float(receiver.stdout.readline())

        yield rate


@pytest.fixture(autouse=True)
def is_removed_completely() -> Iterator[None]:
    yield
    assert own_names() == set()


def test_network_is_made_of_named_namespaces_only() -> None:
    before, outside = own_names(), devices()
    with ShapedNetwork(3, 100) as joined:
        assert len(own_names() - before) == 4
        assert {joined.namespace(host) for host in range(3)} < own_names()
        assert [joined.address(host) for host in range(3)] == ["10.77.0.1", "10.77.0.2", "10.77.0.3"]
        assert devices() == outside
    assert (own_names(), devices()) == (before, outside)


def test_two_networks_stand_side_by_side() -> None:
    with ShapedNetwork(1) as one, ShapedNetwork(1, subnet="10.78.0.0/16") as other:
        assert one.namespace(0) != other.namespace(0)
        assert other.address(0) == "10.78.0.1"


def test_exception_inside_removes_all_and_kills_what_runs() -> None:
    with pytest.raises(ZeroDivisionError), ShapedNetwork(2) as joined:
        process = joined.run(1, ["sleep", "1000"])
        raise ZeroDivisionError
    assert process.returncode == -9
    assert own_names() == set()


@pytest.mark.parametrize("step", ["port0", "address", "10.77.0.2/24"])
def test_network_that_fails_half_made_is_removed(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = network._ip

    def failing(*arguments: str) -> None:
        if step in arguments:
            assert own_names() != set()
            raise StartupError("the kernel would not")
        real(*arguments)

    monkeypatch.setattr(network, "_ip", failing)
    with pytest.raises(StartupError, match="would not"), ShapedNetwork(2):
        pytest.fail("was made")
    assert own_names() == set()


def test_leftovers_of_a_dead_process_are_removed_and_those_of_others_stay() -> None:
    left, alive, foreign = f"p2pdl-{dead_process()}-0-switch", "p2pdl-1-0-switch", f"other-{os.getpid()}"
    try:
        for name in (left, alive, foreign):
            subprocess.run(["ip", "netns", "add", name], check=True)
        with ShapedNetwork(1):
            assert left not in names()
            assert {alive, foreign} <= set(os.listdir(NAMESPACES))
    finally:
        for name in {left, alive, foreign} & set(os.listdir(NAMESPACES)):
            subprocess.run(["ip", "netns", "delete", name], check=True)


def test_command_runs_in_its_host_under_its_own_id_with_its_descriptors() -> None:
    code = "import os, sys; print(os.getpid(), os.stat('/proc/self/ns/net').st_ino, os.read(int(sys.argv[1]), 9))"
    reading, writing = os.pipe()
    with ShapedNetwork(2) as joined:
        command = [sys.executable, "-c", code, str(reading)]
        with joined.run(1, command, pass_fds=[reading], stdout=subprocess.PIPE, text=True) as process:
            os.write(writing, b"something")
            said = process.stdout.read().split()
        inode = (NAMESPACES / joined.namespace(1)).stat().st_ino
    os.close(reading)
    os.close(writing)
    assert said == [str(process.pid), str(inode), "b'something'"]
    assert inode != Path("/proc/self/ns/net").stat().st_ino


def test_host_binds_its_loopback_and_its_own_address() -> None:
    code = "import socket, sys; socket.create_server((sys.argv[1], 7000)); print('bound')"
    with ShapedNetwork(1) as joined:
        for address in ("127.0.0.1", joined.address(0)):
            command = [sys.executable, "-c", code, address]
            with joined.run(0, command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout.read() == "bound\n"


def test_shaped_link_carries_its_rate() -> None:
    with ShapedNetwork(2, 100) as joined, transfer(joined) as rate:
        assert 85 < rate(6 * MEGABYTES) < 100


def test_link_without_a_limit_is_faster() -> None:
    with ShapedNetwork(2) as joined, transfer(joined) as rate:
        assert rate(6 * MEGABYTES) > 300


def test_rate_changes_while_a_connection_goes_on() -> None:
    with ShapedNetwork(2, 20) as joined, transfer(joined) as rate:
        assert 17 < rate(MEGABYTES) < 22
        joined.shape(200)
        assert 150 < rate(6 * MEGABYTES) < 210
        joined.shape(None)
        assert rate(6 * MEGABYTES) > 300
        joined.shape(50)
        assert 42 < rate(2 * MEGABYTES) < 52


def test_links_have_rates_of_their_own() -> None:
    with ShapedNetwork(2) as joined, transfer(joined) as rate:
        joined.shape(200, [0])
        joined.shape(20, [1])
        assert 17 < rate(MEGABYTES) < 22
        joined.shape(None, [1])
        assert 150 < rate(6 * MEGABYTES) < 210


def test_packets_are_late_or_the_kernel_says_that_it_cannot_and_the_link_goes_on() -> None:
    can = contextlib.nullcontext() if network.has_netem() else pytest.raises(StartupError, match="netem")
    with ShapedNetwork(2) as joined, transfer(joined) as rate:
        with can:
            joined.delay(20, [0])
        joined.delay(0)
        joined.shape(20)
        assert 17 < rate(MEGABYTES) < 22


def test_late_link_is_asked_for_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    with ShapedNetwork(2, 100) as joined:
        with monkeypatch.context() as patched:
            patched.setattr(network, "_do", lambda *words: lines.append(" ".join(words[2:])))
            joined.delay(20, [1])
        wanted = []
        for place, device in ((joined.namespace(1), "eth0"), (joined.namespace(0)[:-1] + "switch", "port1")):
            start = f"{place} qdisc replace dev {device}"
            wanted += [f"{start} root noqueue", f"{start} root handle 7d1: netem delay 20ms limit 1167"]
            wanted += [f"{start} parent 7d1:1 tbf rate 100000000bit burst 80000b latency 50ms"]
    assert lines == wanted


@pytest.mark.parametrize("hosts", [0, 255])
def test_wrong_number_of_hosts_is_refused(hosts: int) -> None:
    with pytest.raises(ValueError, match="no room"):
        ShapedNetwork(hosts)


def test_wrong_host_rate_and_command_are_refused() -> None:
    with ShapedNetwork(1) as joined:
        with pytest.raises(ValueError, match="no host 1"):
            joined.address(1)
        with pytest.raises(ValueError, match="rate of -5"):
            joined.shape(-5)
        with pytest.raises(ValueError, match="no host 1"):
            joined.shape(5, [1])
        with pytest.raises(ValueError, match="-1 ms late"):
            joined.delay(-1)
        with pytest.raises(StartupError, match="no command p2pdl-nothing"):
            joined.run(0, ["p2pdl-nothing"])


@pytest.mark.parametrize(
    "what, value, reason",
    [
        ("os.geteuid", lambda: 1000, "not root"),
        ("shutil.which", lambda command: None if command == "tc" else command, "no command tc"),
    ],
)
def test_machine_without_the_means_says_what_is_missing(
    what: str, value: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"experiments.network.{what}", value)
    assert reason in network.available()
    with pytest.raises(StartupError, match=f"cannot be made here: .*{reason}"), ShapedNetwork(1):
        pytest.fail("was made")
