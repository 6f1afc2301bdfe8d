"""The fault proxy: exact without faults, exactly as wrong as asked for with them, and nothing left when it ends."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import ROOT, children, free_port, wait_until
from tests.tools.proxied import WAIT, Pair, Place, is_refused, is_reset, is_silent, place, received
from tools.faults import HALF_OPEN, FaultProxy, Faults, Way
from tools.faults.faults import DAMAGE


def random_bytes(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


@pytest.fixture(scope="module")
def shared() -> Iterator[Place]:
    """One proxy for many examples."""
    with place() as made:
        yield made


PIECES = st.lists(st.binary(max_size=4096), max_size=8)
WAYS = st.builds(
    Way,
    latency=st.sampled_from([0.0, 0.0, 0.003]),
    bandwidth=st.sampled_from([float("inf"), 3e6]),
    corrupt_every=st.integers(0, 3000),
    corrupt_at=st.none() | st.integers(0, 5000),
)


def expected(sent: bytes, way: Way) -> bytes:
    """What arrives, byte by byte."""
    every = way.corrupt_every
    return bytes(
        byte ^ DAMAGE if at == way.corrupt_at or (every and at % every == every - 1) else byte
        for at, byte in enumerate(sent)
    )


def exchanged(pair: Pair, there: list[bytes], back: list[bytes]) -> tuple[bytes, bytes]:
    """Send pieces both ways, and give what has come at the target and at the client."""
    for pieces, end in ((there, pair.client), (back, pair.target)):
        for piece in pieces:
            end.sendall(piece)
        end.shutdown(socket.SHUT_WR)
    return received(pair.target), received(pair.client)


@settings(max_examples=40)
@given(PIECES, PIECES)
def test_bytes_without_faults_are_identical_both_ways(shared: Place, there: list[bytes], back: list[bytes]) -> None:
    shared.proxy.heal()
    with shared.pair() as pair:
        assert exchanged(pair, there, back) == (b"".join(there), b"".join(back))


@settings(max_examples=60)
@given(WAYS, WAYS, PIECES, PIECES)
def test_bytes_with_damage_differ_exactly_where_asked_for(
    shared: Place, to_target: Way, from_target: Way, there: list[bytes], back: list[bytes]
) -> None:
    shared.proxy.change(Faults(to_target, from_target))
    before = shared.proxy.counters()
    wanted = expected(b"".join(there), to_target), expected(b"".join(back), from_target)
    with shared.pair() as pair:
        assert exchanged(pair, there, back) == wanted
        assert wait_until(lambda: shared.proxy.counters().open == 0, WAIT)
    after = shared.proxy.counters()
    for old, new, sent, came in (
        (before.to_target, after.to_target, there, wanted[0]),
        (before.from_target, after.from_target, back, wanted[1]),
    ):
        assert new.received - old.received == new.delivered - old.delivered == len(came)
        assert new.corrupted - old.corrupted == sum(a != b for a, b in zip(b"".join(sent), came, strict=True))


def test_large_streams_pass_both_ways_at_once_and_unharmed() -> None:
    sent = random_bytes(24 << 20)
    with place() as there, there.pair() as pair:
        pair.client.setblocking(False)
        pair.target.setblocking(False)
        got = {pair.client: bytearray(), pair.target: bytearray()}
        left = {pair.client: memoryview(sent), pair.target: memoryview(sent)[::-1].tobytes()}

        def moves() -> bool:
            for end in got:
                with contextlib.suppress(BlockingIOError):
                    left[end] = left[end][end.send(left[end][: 1 << 20]) :]
                with contextlib.suppress(BlockingIOError):
                    got[end] += end.recv(1 << 20)
            return all(len(text) == len(sent) for text in got.values())

        assert wait_until(moves, 60.0)
        assert bytes(got[pair.target]) == sent and bytes(got[pair.client]) == sent[::-1]


def test_half_closed_connection_still_carries_the_other_way() -> None:
    with place() as there, there.pair() as pair:
        pair.client.shutdown(socket.SHUT_WR)
        assert received(pair.target) == b""
        pair.target.sendall(b"late")
        pair.target.shutdown(socket.SHUT_WR)
        assert received(pair.client) == b"late"
        assert wait_until(lambda: there.proxy.counters().open == 0, WAIT)
        assert there.proxy.counters().cut == 0


def test_latency_delays_each_way_by_itself() -> None:
    with place(Faults(Way(latency=0.2), Way(latency=0.1))) as there, there.pair() as pair:
        started = time.monotonic()
        pair.client.sendall(b"x")
        assert received(pair.target, 1) == b"x"
        between = time.monotonic()
        pair.target.sendall(b"y")
        assert received(pair.client, 1) == b"y"
        ended = time.monotonic()
    assert between - started >= 0.2 and 0.1 <= ended - between


def test_latency_is_no_limit_of_the_rate() -> None:
    text = random_bytes(1 << 20)
    with place(Faults(Way(latency=0.3))) as there, there.pair() as pair:
        started = time.monotonic()
        for start in range(0, len(text), 1 << 14):
            pair.client.sendall(text[start : start + (1 << 14)])
        assert received(pair.target, len(text)) == text
        # One after the other, 64 pieces would take 19 s.
        assert 0.3 <= time.monotonic() - started < 5.0


def test_bandwidth_is_what_all_connections_share() -> None:
    with place(Faults(from_target=Way(bandwidth=1e5))) as there, there.pair() as one, there.pair() as other:
        started = time.monotonic()
        for pair in (one, other):
            pair.target.sendall(bytes(20_000))
        assert received(one.client, 20_000) == received(other.client, 20_000) == bytes(20_000)
        assert time.monotonic() - started >= 0.39
        # The way back is free.
        one.client.sendall(bytes(100_000))
        assert received(one.target, 100_000) == bytes(100_000)


def test_bandwidth_raised_is_felt_at_once_by_what_is_under_way() -> None:
    with place(Faults(from_target=Way(bandwidth=100.0))) as there, there.pair() as pair:
        pair.target.sendall(bytes(100_000))
        assert received(pair.client, 1) == b"\0"
        there.proxy.heal()
        started = time.monotonic()
        assert received(pair.client, 99_999) == bytes(99_999)
        assert time.monotonic() - started < 10.0


@pytest.mark.parametrize("reset", [True, False])
def test_cut_ends_both_sides_and_new_connections_are_taken(reset: bool) -> None:
    with place(Faults(reset=reset)) as there:
        with there.pair() as pair:
            pair.client.sendall(b"x")
            assert received(pair.target, 1) == b"x"
            there.proxy.cut()
            assert [is_reset(pair.client), is_reset(pair.target)] == [reset, reset]
            assert there.proxy.counters().cut == 1
        with there.pair() as pair:
            assert exchanged(pair, [b"again"], []) == (b"again", b"")


@pytest.mark.parametrize("count", [0, 1, 1000, 100_000])
def test_cut_after_so_many_bytes_lets_exactly_these_through(count: int) -> None:
    text = random_bytes(200_000)
    with place(Faults(from_target=Way(cut_after=count), reset=False)) as there, there.pair() as pair:
        pair.target.sendall(text)
        assert received(pair.client) == text[:count]
        assert wait_until(lambda: there.proxy.counters().cut == 1, WAIT)


def test_half_open_connection_swallows_everything_and_stays_up_until_it_heals() -> None:
    with place() as there, there.pair() as pair:
        pair.client.sendall(b"before")
        assert received(pair.target, 6) == b"before"
        there.proxy.change(HALF_OPEN)
        pair.client.sendall(b"lost")
        pair.target.sendall(b"lost too")
        assert is_silent(pair.client) and is_silent(pair.target)
        counters = there.proxy.counters()
        assert (counters.to_target.swallowed, counters.from_target.swallowed, counters.open) == (4, 8, 1)
        there.proxy.heal()
        assert is_reset(pair.client) and is_reset(pair.target)


def test_half_open_connection_keeps_ends_and_resets_to_itself() -> None:
    with place(HALF_OPEN) as there, there.pair() as pair:
        pair.client.close()
        assert is_silent(pair.target)
        pair.target.sendall(b"anybody there?")
        assert is_silent(pair.target)
        assert there.proxy.counters().open == 1


def test_connection_unused_while_the_link_was_half_open_goes_on() -> None:
    with place() as there, there.pair() as pair:
        there.proxy.change(HALF_OPEN)
        there.proxy.heal()
        assert exchanged(pair, [b"there"], [b"back"]) == (b"there", b"back")


def test_black_hole_of_one_way_leaves_the_other_alone() -> None:
    with place(Faults(from_target=Way(is_black_hole=True))) as there, there.pair() as pair:
        pair.client.sendall(b"there")
        assert received(pair.target, 5) == b"there"
        pair.target.sendall(b"back")
        assert is_silent(pair.client)
        pair.client.sendall(b"more")
        assert received(pair.target, 4) == b"more"


def test_one_fault_after_the_other_adds_up_for_both_ways() -> None:
    with place() as there:
        there.proxy.latency(0.1)
        there.proxy.bandwidth(1e6)
        there.proxy.corrupt(100)
        way = Way(latency=0.1, bandwidth=1e6, corrupt_every=100)
        assert there.proxy.faults == Faults(way, way)
        there.proxy.half_open()
        assert there.proxy.faults.to_target == there.proxy.faults.from_target == replace(way, is_black_hole=True)
        there.proxy.heal()
        assert there.proxy.faults == Faults()


def test_refusal_is_for_new_connections_only() -> None:
    with place() as there, there.pair() as pair:
        there.proxy.change(Faults(refuse=True))
        assert is_refused(there.proxy)
        pair.client.sendall(b"x")
        assert received(pair.target, 1) == b"x"
        counters = there.proxy.counters()
        assert (counters.accepted, counters.refused, counters.open) == (2, 1, 1)
        there.proxy.heal()
        with there.pair() as again:
            assert exchanged(again, [b"x"], []) == (b"x", b"")


def test_target_that_is_down_refuses() -> None:
    with FaultProxy(f"127.0.0.1:{free_port()}") as proxy:
        assert is_refused(proxy)
        assert proxy.counters().refused == 1


def test_close_resets_what_is_open_and_gives_the_port_back() -> None:
    there = Place(Faults(Way(latency=60.0), Way(is_black_hole=True)))
    with there.pair() as pair:
        pair.client.sendall(b"x")
        there.close()
        there.close()
        assert is_reset(pair.client) and is_reset(pair.target)
        assert there.proxy.counters().open == 0
        with FaultProxy("127.0.0.1:1", listen=there.proxy.address) as again:
            assert again.address == there.proxy.address


@pytest.mark.parametrize("address", ["", "host", "127.0.0.1:port", "127.0.0.1:70000"])
def test_address_malformed_is_an_error(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        FaultProxy(address)


def test_address_taken_is_an_error() -> None:
    with place() as there, pytest.raises(OSError):
        FaultProxy("127.0.0.1:1", listen=there.proxy.address)


@pytest.mark.parametrize("wrong", [{"latency": -1.0}, {"bandwidth": 0.0}, {"corrupt_every": -1}])
def test_way_that_makes_no_sense_is_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Way(**wrong)  # type: ignore[arg-type]


def test_command_forwards_with_the_faults_asked_for_and_counts() -> None:
    before = children()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT)
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "tools.faults", "--target", target, "--listen", "0"]
        faults = ["--way", "to-target", "--corrupt-every", "4", "--latency", "0.01"]
        program = subprocess.Popen([*command, *faults], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with program:
            assert program.stdout is not None
            said = program.stdout.readline()
            host, port = said.split()[2].rstrip(",").split(":")
            with socket.create_connection((host, int(port)), timeout=WAIT) as client:
                end, _ = listener.accept()
                with end:
                    client.sendall(bytes(8))
                    assert received(end, 8) == b"\0\0\0\xff\0\0\0\xff"
            program.send_signal(signal.SIGINT)
            said = program.stdout.read()
    assert program.returncode == 0
    assert "accepted: 1" in said and "'corrupted': 2" in said
    assert children() == before


def test_command_that_cannot_listen_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        command = [sys.executable, "-m", "tools.faults", "--target", "127.0.0.1:1", "--listen", address]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"cannot forward from {address} to 127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr
