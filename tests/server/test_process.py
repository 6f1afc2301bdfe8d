"""The real server process: quick, small, never an orphan, and not put off by any junk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from p2pdl.errors import PeerTimeout
from p2pdl.protocol.messages import Envelope, RangeRequest, Refusal, SnapshotRequest, StatusRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.server.process import ServerSettings
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS, Word
from p2pdl.types import Float32Vector, Indices
from p2pdl.wire import HEADER_LIMIT, decode, encode
from tests.processes import ROOT, free_port, is_running, is_stopped, memory_mib, server, wait_until
from tests.puller.pulling import pull, requester_of, status_of, version_of
from tests.stores import dense_spec, new_store, publish, random_vector, writing

SPEC = dense_spec(1000)
VECTOR = random_vector(SPEC.size)

READY_LIMIT = 2.0
"""Seconds for the best of a few starts. The target is 0.5 on a machine with nothing else to do, which none is here."""

SERVER_MIB = 80.0
"""What a server may have resident beside its two copies of the model."""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a server answers over a store with one published version; one server takes all the junk of this file."""
    with new_store() as store, writing(store, SPEC) as writer:
        publish(writer, VECTOR)
        with server(store) as running:
            assert running.ready == ""
            yield running.address


def is_serving(address: str) -> bool:
    # After a message without a delimiter libzmq's REP loses the next reply now and then; whoever pulls asks again.
    for _ in range(3):
        with contextlib.suppress(PeerTimeout):
            return status_of(address).state == "starting" and version_of(address, SPEC) == 1
    return False


def test_server_is_ready_soon_and_answers_from_then_on(capsys: pytest.CaptureFixture[str]) -> None:
    seconds: list[float] = []
    with new_store() as store:
        while len(seconds) < 3 or (min(seconds) > READY_LIMIT and len(seconds) < 8):
            with server(store) as running:
                assert running.ready == ""
                assert status_of(running.address).state == "starting"
                seconds.append(running.seconds)
    with capsys.disabled():
        print(f" [server ready after {min(seconds):.2f} s] ", end="")
    assert min(seconds) < READY_LIMIT


@linux_only
def test_server_has_no_copy_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    spec = dense_spec(20_000_000)
    model = spec.nbytes / 2**20
    vector = random_vector(spec.size)
    inbox = Inbox(spec)
    private = 0.0
    with new_store() as store, writing(store, spec) as writer, server(store) as running:
        with requester_of("beta") as beta, requester_of("gamma") as gamma:
            for step in range(1, 5):
                vector[::1000] = step
                assert publish(writer, vector, step=step) == step
                for requester in (beta, gamma):
                    outcome = pull(requester, running.address, spec, inbox)
                    assert outcome.error is None and outcome.snapshot is not None
                    assert outcome.snapshot.version == step
                    assert outcome.payload_nbytes == spec.nbytes
                    np.testing.assert_array_equal(inbox.vector, vector)
                    private = max(private, memory_mib(running.process.pid, "RssAnon"))
    with capsys.disabled():
        print(f" [server's own memory {private:.0f} MiB with a model of {model:.0f} MiB] ", end="")
    assert private < SERVER_MIB


def test_sigterm_ends_the_server_with_code_zero_and_frees_its_port() -> None:
    with new_store() as store:
        with server(store) as running:
            running.process.terminate()
            assert running.wait() == 0
        with server(store, address=running.address) as again:
            assert again.ready == ""


def test_sigint_is_the_supervisors_affair() -> None:
    with new_store() as store, server(store) as running:
        running.process.send_signal(signal.SIGINT)
        assert status_of(running.address).state == "starting"
        assert running.process.poll() is None


def test_closed_lifeline_ends_the_server() -> None:
    with new_store() as store, server(store) as running:
        running.cut_lifeline()
        assert running.wait() == -signal.SIGKILL


@linux_only
def test_stopped_server_ends_with_its_killed_parent() -> None:
    parent_code = (
        "import os, sys; from tests.processes import server; from tests.stores import new_store\n"
        "with new_store() as store, server(store) as running:\n"
        "    print(running.process.pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None and parent.stdin is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: is_stopped(pid), 10.0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    assert wait_until(lambda: not is_running(pid), 10.0)


def test_port_in_use_is_told_through_the_ready_pipe() -> None:
    with socket.socket() as other, new_store() as store:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with server(store, address=address) as running:
            kind, message, remedy = json.loads(running.ready)
            assert (kind, message) == ("AddressInUse", f"cannot listen on {address}: something else does already")
            assert "another port" in remedy
            assert running.wait() == 2


def test_foreign_address_is_told_through_the_ready_pipe() -> None:
    with new_store() as store, server(store, address="203.0.113.7:7101") as running:
        assert json.loads(running.ready)[0] == "StartupError"
        assert running.wait() == 2


def test_killed_server_is_replaced_over_the_same_store_and_serves_the_same_version() -> None:
    with new_store() as store, writing(store, SPEC) as writer:
        publish(writer, VECTOR)
        publish(writer, VECTOR + 1)
        address = ""
        for start in range(1, 4):
            with server(store, address=address) as running, requester_of() as requester:
                address = running.address
                inbox = Inbox(SPEC)
                outcome = pull(requester, address, SPEC, inbox)
                assert outcome.snapshot is not None
                assert (outcome.snapshot.version, outcome.snapshot.incarnation) == (2, writer.incarnation)
                np.testing.assert_array_equal(inbox.vector, VECTOR + 1)
                assert status_of(address).figures["server_starts"] == start
                running.process.kill()
                assert running.wait() == -signal.SIGKILL


def test_server_started_before_the_model_serves_it_as_soon_as_it_is_there() -> None:
    with new_store() as store, server(store) as running:
        with requester_of() as requester:
            outcome = pull(requester, running.address, SPEC, Inbox(SPEC))
            assert outcome.error is not None and outcome.error.code == "not-ready"
        with writing(store, SPEC) as writer:
            publish(writer, VECTOR)
            assert version_of(running.address, SPEC) == 1


def test_store_counters_are_the_servers_traffic() -> None:
    with new_store() as store, writing(store, SPEC) as writer, server(store) as running:
        publish(writer, VECTOR)
        with requester_of() as requester:
            outcome = pull(requester, running.address, SPEC, Inbox(SPEC))
        assert wait_until(lambda: writer.counter(Word.REQUESTS) == 2, 5.0)
        assert writer.counter(Word.BYTES_SENT) == outcome.nbytes
        assert writer.counter(Word.PAYLOAD_SENT) == outcome.payload_nbytes == SPEC.nbytes
        assert (writer.counter(Word.REFUSALS), writer.counter(Word.SERVER_STARTS)) == (0, 1)
        assert writer.newest_was_read


def test_handler_that_fails_is_internal_and_the_next_request_is_served(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with new_store() as store, writing(store, SPEC) as writer:
        publish(writer, VECTOR)
        status = Block(store, STATUS)
        status.write(b"this is not JSON")
        with server(store, log=log) as running:
            for _ in range(2):
                refused = asked(running.address, StatusRequest())
                assert isinstance(refused, Refusal) and refused.code == "internal"
            assert version_of(running.address, SPEC) == 1
            status.write(b'{"state": "training"}')
            reply = status_of(running.address)
            assert (reply.state, reply.figures["refused_internal"]) == ("training", 2)
        status.close()
    assert "JSONDecodeError" in log.read_text()


def asked(address: str, message: StatusRequest | SnapshotRequest | RangeRequest) -> object:
    """The reply to a request, with a REQ socket and nothing of the client's own code."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.REQ) as request:
        request.linger = 0
        request.connect(f"tcp://{address}")
        request.send(encode(Envelope(1, "lab", "beta", message)))
        assert request.poll(20_000)
        return decode(request.recv_multipart()[0]).message


def send_raw(address: str, text: bytes) -> None:
    """Bytes over a bare TCP connection, and whatever comes back is ignored."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw, contextlib.suppress(OSError):
        raw.sendall(text)
        raw.settimeout(0.2)
        while raw.recv(4096):
            pass


def send_parts(address: str, kind: int, *messages: list[bytes]) -> None:
    """Multipart messages from a socket of some type, each given a moment to arrive."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(kind) as junk:
        junk.linger = 300
        junk.connect(f"tcp://{address}")
        for parts in messages:
            junk.send_multipart(parts)
        junk.poll(100)


GOOD = encode(Envelope(1, "lab", "beta", StatusRequest()))
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL".ljust(64, b"\0")
READY = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
HANDSHAKE = GREETING + b"\x04" + bytes([len(READY)]) + READY
MORE_AND_LONG = b"\x03"
JUNK = {
    "http": lambda address: send_raw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tls": lambda address: send_raw(address, bytes.fromhex("16030100f8010000f40303") + bytes(240)),
    "zeros": lambda address: send_raw(address, bytes(100_000)),
    "nothing": lambda address: send_raw(address, b""),
    "frame of 2**62 bytes": lambda address: send_raw(address, HANDSHAKE + MORE_AND_LONG + (2**62).to_bytes(8, "big")),
    "frame of 2**31 bytes": lambda address: send_raw(address, HANDSHAKE + MORE_AND_LONG + (2**31).to_bytes(8, "big")),
    "no delimiter": lambda address: send_parts(address, zmq.DEALER, [GOOD], [b"a", b"b"]),
    "empty parts": lambda address: send_parts(address, zmq.DEALER, [b""], [b"", b""], [b"", b"", b""]),
    "thousand frames": lambda address: send_parts(address, zmq.DEALER, [b"", *[b"x"] * 1000]),
    "frame too large": lambda address: send_parts(address, zmq.DEALER, [b"", bytes(HEADER_LIMIT + 1)]),
    "two frames": lambda address: send_parts(address, zmq.DEALER, [b"", GOOD, GOOD]),
    "not msgpack": lambda address: send_parts(address, zmq.REQ, [b"\xc1" * 100]),
    "publisher": lambda address: send_parts(address, zmq.PUB, [b"", GOOD]),
    "pusher": lambda address: send_parts(address, zmq.PUSH, [b"", GOOD]),
    "gone before the reply": lambda address: send_parts(address, zmq.DEALER, *[[b"", GOOD]] * 50),
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_leaves_the_server_serving(kind: str, address: str) -> None:
    JUNK[kind](address)
    assert is_serving(address)


def test_all_junk_at_once_leaves_a_pull_in_progress_alone() -> None:
    spec = dense_spec(2_000_000)
    vector = random_vector(spec.size)
    with new_store() as store, writing(store, spec) as writer, server(store) as running, requester_of() as requester:
        publish(writer, vector)
        inbox = Inbox(spec)
        kinds = iter(JUNK.values())

        def accept(offset: int, values: Float32Vector, indices: Indices | None) -> None:
            for send in [next(kinds, None), next(kinds, None)]:
                if send is not None:
                    send(running.address)
            inbox.accept(offset, values, indices)

        outcome = requester.pull("alpha", running.address, spec, PullSettings(), accept)
        assert outcome.error is None
        np.testing.assert_array_equal(inbox.vector, vector)
        assert next(kinds, None) is None


def test_silent_connections_do_not_keep_others_out(address: str) -> None:
    with contextlib.ExitStack() as stack:
        host, port = address.split(":")
        for _ in range(100):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        started = time.monotonic()
        assert is_serving(address)
        assert time.monotonic() - started < 5


def test_settings_survive_the_command_line() -> None:
    settings = ServerSettings("lab", 'älpha "quoted"', f"127.0.0.1:{free_port()}", 3, 4, 5, "/tmp/a b.log")
    assert ServerSettings.from_argument(settings.to_argument()) == settings
