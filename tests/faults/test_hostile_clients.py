"""A real server among clients that break every rule: bounded, the same process, and there for the others."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from p2pdl.errors import PeerError
from p2pdl.protocol.messages import Envelope, StatusRequest
from p2pdl.transport.zeromq import WIDEST_WINDOW
from p2pdl.wire import HEADER_LIMIT, encode
from tests.faults.hostile import LONG, MORE, SIGNATURE, WAIT, BareConnection, BarePeer, frame, handshake
from tests.faults.victim import PEAK_MIB, SPEC, Victim, good_client, victim
from tests.processes import memory_mib, server, wait_until
from tests.puller.pulling import requester_of, version_of
from tests.stores import new_store, publish, random_vector, writing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

STATUS = encode(Envelope(1, "lab", "beta", StatusRequest()))
MIB = 1 << 20


@pytest.fixture
def attacked() -> Iterator[Victim]:
    with victim() as made:
        yield made


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(100_000)


NO_ZMTP = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100f8010000f40303") + bytes(240),
    "zeros": bytes(100_000),
    "half a greeting": SIGNATURE,
    "nothing": b"",
    **{f"random bytes, seed {seed}": noise(seed) for seed in range(8)},
}


def test_bytes_that_are_no_zmtp_keep_nobody_out(attacked: Victim) -> None:
    with good_client(attacked) as client, contextlib.ExitStack() as stack:
        for text in NO_ZMTP.values():
            connection = stack.enter_context(contextlib.closing(BareConnection(attacked.address)))
            connection.send(text)
        client.wait_for_one_more()
    refusals = {name: count for name, count in attacked.figures().items() if name.startswith("refused_")}
    # Random bytes can be a message of an old version of ZMTP; what it says is never a request.
    assert set(refusals) <= {"refused_bad-request", "refused_busy"}


@pytest.mark.parametrize("text", [SIGNATURE, b""])
def test_connection_that_does_not_finish_its_handshake_is_closed(attacked: Victim, text: bytes) -> None:
    with contextlib.closing(BareConnection(attacked.address)) as connection:
        connection.send(text)
        seconds = connection.seconds_to_close()
    assert seconds is not None and 2.0 < seconds < 20.0


@pytest.mark.parametrize("size", [HEADER_LIMIT + 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("flags", [0, MORE])
def test_frame_that_is_announced_too_large_closes_the_connection(attacked: Victim, size: int, flags: int) -> None:
    with good_client(attacked) as client:
        client.wait_for_one_more()
        before = attacked.peak_mib()
        for _ in range(20):
            with contextlib.closing(BarePeer(attacked.address)) as peer:
                peer.send(frame(b"", MORE) + bytes([flags | LONG]) + size.to_bytes(8, "big"))
                assert peer.seconds_to_close() is not None
        client.wait_for_one_more()
    assert attacked.peak_mib() < before + 5
    assert attacked.figures()["refusals"] == 0


@pytest.mark.parametrize("kind", [b"PUB", b"PUSH", b"ROUTER", b"PAIR", b"nonsense"])
def test_wrong_kind_of_socket_is_turned_away_at_once(attacked: Victim, kind: bytes) -> None:
    took = []
    for _ in range(5):
        with contextlib.closing(BareConnection(attacked.address)) as connection:
            connection.send(handshake(kind) + frame(b"", MORE) + frame(STATUS))
            took.append(connection.seconds_to_close())
    # Not when the time for handshakes is over.
    assert None not in took and min(filter(None, took)) < 2.5
    assert attacked.figures()["requests"] == 0


def test_messages_without_delimiter_are_dropped_without_a_reply(attacked: Victim) -> None:
    with good_client(attacked) as client, contextlib.closing(BarePeer(attacked.address)) as peer:
        client.wait_for_one_more()
        for _ in range(100):
            peer.send(frame(STATUS) + frame(b"a", MORE) + frame(b"b"))
        peer.send(frame(b"", MORE) + frame(STATUS))
        # The first thing to come back is the answer to the one good request.
        assert b"status-reply" in peer.received(b"status-reply")
        client.wait_for_one_more()
    assert attacked.figures()["refusals"] == 0


def test_requests_of_wrong_form_are_refused_and_counted(attacked: Victim) -> None:
    wrong = {
        "empty parts": frame(b"", MORE) + frame(b""),
        "more empty parts": frame(b"", MORE) + frame(b"", MORE) + frame(b""),
        "5000 frames": frame(b"", MORE) + frame(b"x", MORE) * 4999 + frame(b"x"),
        "two good headers": frame(b"", MORE) + frame(STATUS, MORE) + frame(STATUS),
        "no msgpack": frame(b"", MORE) + frame(b"\xc1" * 100),
        "a header as large as may be": frame(b"", MORE) + frame(bytes(HEADER_LIMIT)),
    }
    with good_client(attacked) as client:
        for text in wrong.values():
            with contextlib.closing(BarePeer(attacked.address)) as peer:
                peer.send(text)
                assert b"bad-request" in peer.received(b"bad-request")
        client.wait_for_one_more()
    figures = attacked.figures()
    assert figures["refused_bad-request"] == figures["refusals"] == len(wrong)


def test_requesters_that_go_before_their_reply_change_nothing(attacked: Victim) -> None:
    with good_client(attacked) as client:
        for number in range(100):
            with contextlib.closing(BarePeer(attacked.address)) as peer:
                assert peer.ask(StatusRequest() if number % 2 else attacked.whole("int8"), "gone")
        client.wait_for_one_more()
    assert attacked.figures()["requests"] >= 100
    assert attacked.peak_mib() < 150


def flood(address: str, body_nbytes: int, at_most: int, watch: Callable[[], None] = lambda: None) -> int:
    """Send frames of one message that never ends, until the connection is cut; returns the bytes that were taken."""
    piece = frame(bytes(body_nbytes), MORE)
    pieces = memoryview(piece * max(1, (MIB // 4) // len(piece)))
    taken = 0
    with contextlib.closing(BarePeer(address)) as peer:
        peer.send(frame(b"", MORE))
        while taken < at_most and peer.send(pieces):
            taken += len(pieces)
            watch()
    return taken


def test_endless_message_of_large_frames_ends_its_connection_and_no_other(attacked: Victim) -> None:
    for _ in range(3):
        with good_client(attacked) as client:
            client.wait_for_one_more()
        assert 50 * MIB < flood(attacked.address, HEADER_LIMIT, 1024 * MIB) < 400 * MIB
        assert attacked.is_same_process()


@pytest.mark.parametrize("body_nbytes", [HEADER_LIMIT, 1000, 30, 0])
def test_endless_message_ends_the_server_at_most_and_the_next_one_serves_the_same_version(body_nbytes: int) -> None:
    peaks = [0.0]
    with new_store() as store, writing(store, SPEC) as writer:
        publish(writer, random_vector(SPEC.size))
        with server(store) as running:
            assert version_of(running.address, SPEC) == 1

            def watch() -> None:
                # Somebody else, for whom there may be no memory.
                other.ask(StatusRequest(), "other")
                with contextlib.suppress(OSError, LookupError):
                    peaks.append(memory_mib(running.process.pid))

            with contextlib.closing(BarePeer(running.address)) as other:
                assert flood(running.address, body_nbytes, 1024 * MIB, watch) < 400 * MIB
            if running.process.poll() is None:
                # It goes on, or is about to end.
                assert wait_until(lambda: running.process.poll() is not None or is_serving(running.address), WAIT)
            assert running.process.poll() in (None, -signal.SIGABRT)
        with server(store, address=running.address) as again:
            assert version_of(again.address, SPEC) == 1
    assert max(peaks) <= PEAK_MIB


def is_serving(address: str) -> bool:
    """Whether a server tells how it is."""
    with requester_of("observer") as requester, contextlib.suppress(PeerError):
        requester.ask(address, StatusRequest(), 3.0)
        return True
    return False


def test_a_thousand_silent_connections_keep_nobody_out_and_are_closed(attacked: Victim) -> None:
    before = most = attacked.descriptors()
    with good_client(attacked) as client, contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(contextlib.closing(BareConnection(attacked.address)))
            most = max(most, attacked.descriptors())
        client.wait_for_one_more()
        assert wait_until(lambda: attacked.descriptors() < before + 20, WAIT)
        client.wait_for_one_more()
    # The first are closed while the last are being made.
    assert most > before + 256


def test_more_silent_connections_than_descriptors_keep_others_out_for_as_long_as_handshakes_may_take(
    attacked: Victim,
) -> None:
    limit = attacked.descriptors() + 60
    resource.prlimit(attacked.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(contextlib.closing(BareConnection(attacked.address)))
        assert wait_until(lambda: attacked.descriptors() >= limit, WAIT)
        with good_client(attacked) as client:
            client.wait_for_one_more()


class SlowReader(BarePeer):
    """Asks for the whole version again and again, and never reads any of it."""

    def __init__(self, attacked: Victim, codec: str, name: str) -> None:
        super().__init__(attacked.address, buffer=8192)
        self._name = name
        self._request = attacked.whole(codec)

    def ask_for_everything(self, times: int) -> bool:
        """Ask so often; False if the connection has been ended."""
        return all(self.ask(self._request, self._name) for _ in range(times))


def test_readers_that_ask_for_hundreds_of_replies_and_never_read_take_no_memory(attacked: Victim) -> None:
    with good_client(attacked) as client, contextlib.ExitStack() as stack:
        client.wait_for_one_more()
        memory, requests = memory_mib(attacked.pid, "RssAnon"), attacked.requests()
        for number in range(8):
            reader = stack.enter_context(contextlib.closing(SlowReader(attacked, "float32", f"slow-{number}")))
            assert reader.ask_for_everything(300)
        # A connection that is reset while its requests wait for more than a heartbeat's time brings libzmq 4.3.5 down.
        assert wait_until(lambda: attacked.requests() >= requests + 8 * 300, WAIT)
        client.wait_for_one_more()
        assert memory_mib(attacked.pid, "RssAnon") < memory + 30


class Hoard:
    """Ever more readers, each of which asks for as many encoded replies as it may have in flight.

    Args:
        attacked: Whom they ask.
    """

    def __init__(self, attacked: Victim) -> None:
        self._attacked = attacked
        self._readers: list[SlowReader] = []
        self._grows_at = 0.0

    def grow(self) -> None:
        """One reader more, if the last one is a moment old: heartbeats find readers, and others take their place."""
        now = time.monotonic()
        if now >= self._grows_at:
            self._grows_at = now + 0.3
            self._readers.append(SlowReader(self._attacked, "bfloat16", f"slow-{len(self._readers)}"))
            assert self._readers[-1].ask_for_everything(WIDEST_WINDOW)

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


def test_encoded_replies_that_nobody_reads_are_bounded_and_others_get_what_needs_no_memory(attacked: Victim) -> None:
    with good_client(attacked) as client, contextlib.closing(Hoard(attacked)) as hoard:
        client.wait_for_one_more()
        before = memory_mib(attacked.pid, "RssAnon")

        def is_at_its_limit() -> bool:
            hoard.grow()
            return int(attacked.figures().get("refused_busy") or 0) >= 2 * WIDEST_WINDOW

        assert wait_until(is_at_its_limit, WAIT)
        assert memory_mib(attacked.pid, "RssAnon") < before + 96 + 30
        client.wait_for_one_more()
    assert attacked.figures().get("refused_internal", 0) == 0


def test_encoded_replies_that_nobody_reads_keep_others_from_theirs_for_seconds_only(attacked: Victim) -> None:
    with good_client(attacked, "int8", deadline=WAIT) as client, contextlib.closing(Hoard(attacked)) as hoard:
        client.wait_for_one_more()

        def is_busy() -> bool:
            hoard.grow()
            return "busy" in client.codes

        assert wait_until(is_busy, WAIT)
        client.wait_for_one_more(WAIT)
