"""Pulls from a server process over ZeroMQ: codecs, parts, and pullers that share one server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
import zmq
from numpy.typing import NDArray

from p2pdl.codec import create
from p2pdl.codec.delta import ReceivedCopy
from p2pdl.codec.ends import Decoder, decoder, shard_of
from p2pdl.protocol.messages import Envelope, RangeRequest, Request, SnapshotReply, SnapshotRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, shards_in
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector, Indices
from p2pdl.wire import decode, encode
from tests.processes import ServerProcess, server, wait_until
from tests.puller.pulling import WAIT, requester_of
from tests.stores import new_store, publish, random_vector, writing

SPEC = WeightSpec.layout(
    [
        ("dense/kernel", (SHARD_ELEMENTS - 40,), "float32", True),
        ("norm/mean", (80,), "float32", False),
        ("output/kernel", (2 * SHARD_ELEMENTS,), "float32", True),
        ("output/variance", (3,), "float32", False),
    ]
)
SHARDS = shards_in(SPEC.size)
IS_STATE = np.zeros(SPEC.size, bool)
for _span in SPEC.state_spans:
    IS_STATE[_span] = True
SETTINGS = PullSettings(timeout=60, request_timeout=WAIT)


def versions() -> list[Float32Vector]:
    """Three versions, each a little further on; what pads the variables is 0."""
    padding = np.ones(SPEC.size, bool)
    for variable in SPEC.variables:
        padding[variable.span] = False
    made = [0.05 * random_vector(SPEC.size, 1)]
    for seed in (2, 3):
        made.append(made[-1] + 0.01 * random_vector(SPEC.size, seed))
    for vector in made:
        vector[padding] = 0
    return made


class Collected:
    """A sink that keeps a copy of what has arrived, and says for each element whether it has."""

    def __init__(self) -> None:
        self.values: Float32Vector = np.zeros(SPEC.size, np.float32)
        self.mask: NDArray[np.bool_] = np.zeros(SPEC.size, bool)

    def __call__(self, offset: int, values: Float32Vector, indices: Indices | None) -> None:
        places = offset + (np.arange(values.size) if indices is None else indices)
        self.values[places] = values
        self.mask[places] = True


@pytest.fixture
def publishing() -> Iterator[tuple[StoreWriter, ServerProcess]]:
    """A trainer's end of a store, and the server of that node."""
    with new_store() as store, writing(store, SPEC) as writer, server(store) as running:
        yield writer, running


@pytest.fixture
def serving(publishing: tuple[StoreWriter, ServerProcess]) -> str:
    """The address of a node that serves the first of the versions."""
    writer, running = publishing
    publish(writer, versions()[0])
    return running.address


def pulled(
    requester: Requester,
    address: str,
    sink: Callable[[int, Float32Vector, Indices | None], None],
    end: Decoder | None = None,
    part: range | None = None,
    settings: PullSettings = SETTINGS,
) -> Outcome:
    return requester.pull("alpha", address, SPEC, settings, sink, decoder=end, part=part)


def done(outcome: Outcome) -> Outcome:
    assert outcome.error is None and outcome.snapshot is not None and not outcome.unchanged
    return outcome


def test_int8_over_three_versions_stays_within_its_bound_at_a_quarter_of_the_bytes(
    publishing: tuple[StoreWriter, ServerProcess],
) -> None:
    writer, running = publishing
    codec, end = create("int8"), decoder("int8", SPEC)
    with requester_of() as requester:
        for vector in versions():
            publish(writer, vector)
            found = Collected()
            outcome = done(pulled(requester, running.address, found, end))
            assert found.mask.all()
            bound = np.concatenate([codec.error_bound(shard_of(vector, number)) for number in range(SHARDS)])
            assert (np.abs(found.values - vector) <= bound).all()
            assert outcome.payload_nbytes == SPEC.size + 4 * sum(
                -(-shard_of(vector, number).size // 256) for number in range(SHARDS)
            )
            assert 0.25 * SPEC.nbytes < outcome.nbytes < 0.26 * SPEC.nbytes


def test_top_k_over_three_versions_sends_the_greatest_changes_only(
    publishing: tuple[StoreWriter, ServerProcess],
) -> None:
    writer, running = publishing
    end = decoder("top-k:0.05:int8", SPEC)
    assert isinstance(end, ReceivedCopy)
    first, *later = versions()
    with requester_of() as requester:
        publish(writer, first)
        found = Collected()
        outcome = done(pulled(requester, running.address, found, end))
        # There is no copy yet: everything comes, in steps of 1/127 of the greatest value, rounded to the nearest.
        assert found.mask.all() and 0.25 * SPEC.nbytes < outcome.nbytes < 0.26 * SPEC.nbytes
        assert_close(found, first, np.abs(first).max())
        for vector in later:
            publish(writer, vector)
            difference = np.abs(vector - end.vector)
            found = Collected()
            outcome = done(pulled(requester, running.address, found, end))
            assert outcome.nbytes < SPEC.nbytes / 10
            assert_close(found, vector, difference[~IS_STATE].max())
            np.testing.assert_array_equal(found.values[found.mask], end.vector[found.mask])
            for number in range(SHARDS):
                trained = ~shard_of(IS_STATE, number)
                sent, size = shard_of(found.mask, number)[trained], shard_of(difference, number)[trained]
                assert sent.sum() == -(-5 * sent.size // 100)
                assert size[sent].min() >= size[~sent].max()


def assert_close(found: Collected, vector: Float32Vector, greatest: float) -> None:
    """What has come lies within half a step of the version, statistics are exact."""
    errors = np.abs(found.values - vector)[found.mask]
    assert errors.max() <= 0.5 * greatest / 127 * (1 + 1e-4)
    assert found.mask[IS_STATE].all()
    np.testing.assert_array_equal(found.values[IS_STATE], vector[IS_STATE])


def test_mean_threshold_over_three_versions_sends_what_changed_by_more_than_the_mean(
    publishing: tuple[StoreWriter, ServerProcess],
) -> None:
    writer, running = publishing
    end = decoder("mean-threshold", SPEC)
    assert isinstance(end, ReceivedCopy)
    first, *later = versions()
    with requester_of() as requester:
        publish(writer, first)
        found = Collected()
        outcome = done(pulled(requester, running.address, found, end))
        assert found.mask.all() and SPEC.nbytes < outcome.nbytes < 1.01 * SPEC.nbytes
        np.testing.assert_array_equal(found.values, first)
        for vector in later:
            publish(writer, vector)
            difference = np.abs(vector - end.vector).astype(np.float64)
            found = Collected()
            outcome = done(pulled(requester, running.address, found, end))
            assert 0.4 * SPEC.nbytes < outcome.nbytes < 0.5 * SPEC.nbytes
            np.testing.assert_array_equal(found.values[found.mask], vector[found.mask])
            assert found.mask[IS_STATE].all()
            for variable in SPEC.variables:
                # One mean for the whole variable, though it lies in several shards.
                size, sent = difference[variable.span], found.mask[variable.span]
                if variable.trainable:
                    assert sent[size >= size.mean() * (1 + 1e-4)].all()
                    assert not sent[size < size.mean() * (1 - 1e-4)].any()


@pytest.mark.parametrize("codec", ["int8", "top-k:0.05:int8", "mean-threshold"])
def test_inbox_after_a_pull_holds_what_the_merge_needs(
    publishing: tuple[StoreWriter, ServerProcess], codec: str
) -> None:
    writer, running = publishing
    end, inbox, base = decoder(codec, SPEC), Inbox(SPEC), random_vector(SPEC.size, 9)
    with requester_of() as requester:
        for number, vector in enumerate(versions()):
            publish(writer, vector)
            found = Collected()

            def both(offset: int, values: Float32Vector, indices: Indices | None, found: Collected = found) -> None:
                found(offset, values, indices)
                inbox.accept(offset, values, indices)

            inbox.expect(base)
            done(pulled(requester, running.address, both, end))
            assert inbox.is_whole == (codec == "int8" or number == 0)
            inbox.clear_missing()
            assert inbox.arrived().all()
            expected = np.where(found.mask, found.values - base, np.float32(0))
            expected[IS_STATE] = found.values[IS_STATE]
            np.testing.assert_array_equal(inbox.vector, expected)


@pytest.mark.parametrize("codec", ["float32", "int8", "top-k:0.5"])
def test_parts_pulled_one_after_the_other_make_the_whole(serving: str, codec: str) -> None:
    vector, end, inbox, base = versions()[0], decoder(codec, SPEC), Inbox(SPEC), random_vector(SPEC.size, 9)
    whole = Collected()
    nbytes = 0
    with requester_of() as requester:
        for part in (range(0, 1), range(1, 3), range(3, SHARDS)):
            inbox.expect(base)
            found = Collected()

            def sink(offset: int, values: Float32Vector, indices: Indices | None, found: Collected = found) -> None:
                inbox.accept(offset, values, indices)
                found(offset, values, indices)
                whole(offset, values, indices)

            outcome = done(pulled(requester, serving, sink, end, part))
            nbytes += outcome.payload_nbytes
            inside = np.zeros(SPEC.size, bool)
            inside[part.start * SHARD_ELEMENTS : part.stop * SHARD_ELEMENTS] = True
            np.testing.assert_array_equal(found.mask, inside)
            inbox.clear_missing()
            assert not inbox.is_whole
            np.testing.assert_array_equal(inbox.vector[~inside], 0)
            trained = inside & ~IS_STATE
            np.testing.assert_array_equal(inbox.vector[trained], (found.values - base)[trained])
            # The statistics of `norm/mean` lie in two parts: they never arrive whole.
            assert list(inbox.arrived()) == [inside[variable.span].all() for variable in SPEC.variables]
            assert not inbox.arrived()[1]
    assert whole.mask.all()
    if codec != "int8":
        np.testing.assert_array_equal(whole.values, vector)
        assert SPEC.nbytes <= nbytes <= SPEC.nbytes + 64 * SHARDS
    else:
        assert np.abs(whole.values - vector).max() <= np.abs(vector).max() / 127 * (1 + 1e-4)
        assert 0.25 * SPEC.nbytes < nbytes < 0.26 * SPEC.nbytes


def pulled_in_turn(requester: Requester, address: str) -> tuple[Collected, int]:
    """Ask until it is this puller's turn; returns what came, and how often it was told `busy`."""
    refusals = 0
    give_up_at = time.monotonic() + WAIT
    while True:
        found = Collected()
        outcome = pulled(requester, address, found)
        if outcome.error is None:
            return found, refusals
        assert outcome.error.code == "busy", outcome.error.message
        assert outcome.payload_nbytes == 0
        assert time.monotonic() < give_up_at, "its turn never came"
        refusals += 1


def test_second_puller_is_told_busy_and_gets_its_turn(serving: str) -> None:
    begun, let = threading.Event(), threading.Event()
    outcomes: list[Outcome] = []

    def hesitant(offset: int, values: Float32Vector, indices: Indices | None) -> None:
        begun.set()
        let.wait(WAIT)

    def pull_first() -> None:
        with requester_of("beta") as requester:
            # One range at a time: the last one is not asked for before the first has been taken.
            settings = PullSettings(timeout=60, request_timeout=WAIT, window=1)
            outcomes.append(pulled(requester, serving, hesitant, settings=settings))

    thread = threading.Thread(target=pull_first)
    thread.start()
    try:
        assert begun.wait(WAIT)
        with requester_of("gamma") as requester:
            refused = pulled(requester, serving, Collected()).error
            assert refused is not None and refused.code == "busy"
            let.set()
            found, _ = pulled_in_turn(requester, serving)
    finally:
        let.set()
        thread.join()
    np.testing.assert_array_equal(found.values, versions()[0])
    assert [outcome.error for outcome in outcomes] == [None]


def test_two_pullers_that_never_pause_both_get_all_their_pulls(serving: str) -> None:
    vector = versions()[0]

    def pull_often(name: str) -> list[bool]:
        with requester_of(name) as requester:
            found = [pulled_in_turn(requester, serving)[0] for _ in range(5)]
        return [bool(each.mask.all() and (each.values == vector).all()) for each in found]

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(pull_often, ["beta", "gamma"])) == [[True] * 5] * 2


class SlowReader:
    """A puller that is granted a version, asks for ranges of it and never reads one."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvhwm, self._socket.rcvbuf = 1, 1 << 16
        self._socket.connect(f"tcp://{address}")
        self._ids = count(1)
        self._granted = 0

    def begin(self) -> None:
        self._granted = self._ask(SnapshotRequest(SPEC.digest))
        assert self._socket.poll(round(1000 * WAIT))
        assert isinstance(decode(self._socket.recv_multipart()[1]).message, SnapshotReply)

    def ask_for_more(self) -> None:
        self._ask(RangeRequest("", self._granted, 0, SHARD_ELEMENTS, "float32", (), False))

    def _ask(self, request: Request) -> int:
        envelope = Envelope(next(self._ids), "lab", "sloth", request)
        self._socket.send_multipart([b"", encode(envelope)])
        return envelope.id

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def sloth(serving: str) -> Iterator[SlowReader]:
    reader = SlowReader(serving)
    yield reader
    reader.close()


def test_puller_that_never_reads_and_falls_silent_does_not_keep_others_from_pulling(
    serving: str, sloth: SlowReader
) -> None:
    with requester_of() as requester:
        sloth.begin()
        for _ in range(40):
            sloth.ask_for_more()
        found, refusals = pulled_in_turn(requester, serving)
    assert refusals > 0
    np.testing.assert_array_equal(found.values, versions()[0])


def test_puller_that_never_reads_and_goes_on_asking_does_not_keep_others_from_pulling(
    serving: str, sloth: SlowReader
) -> None:
    found, codes = Collected(), []

    def is_pulled() -> bool:
        sloth.ask_for_more()
        outcome = pulled(requester, serving, found)
        codes.append(outcome.error.code if outcome.error else "pulled")
        return outcome.error is None

    with requester_of() as requester:
        # The server has seen how long a pull takes: this one takes too long.
        done(pulled(requester, serving, found))
        sloth.begin()
        found.mask[:] = False
        assert wait_until(is_pulled, WAIT)
    assert found.mask.all() and codes[0] == "busy" and set(codes) == {"busy", "pulled"}
    np.testing.assert_array_equal(found.values, versions()[0])
