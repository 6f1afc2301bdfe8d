"""When a place is given to the next puller, over real sockets: when the last reply has left the process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from p2pdl.puller.inbox import Inbox
from p2pdl.store.layout import Word
from p2pdl.store.writer import StoreWriter
from tests.processes import wait_until
from tests.puller.pulling import WAIT, pull, requester_of
from tests.server.running import SHARDS, SPEC, RunningServer, SlowReader
from tests.stores import new_store, publish, random_vector, writing


@pytest.fixture
def serving() -> Iterator[tuple[StoreWriter, RunningServer]]:
    """A trainer's end of a store with one version, and the server of that node."""
    with new_store() as store, writing(store, SPEC) as writer, contextlib.closing(RunningServer(store)) as running:
        publish(writer, random_vector(SPEC.size))
        yield writer, running


def asked_for_all(writer: StoreWriter, reader: SlowReader) -> None:
    before = writer.counter(Word.REQUESTS)
    reader.ask_for_all()
    assert wait_until(lambda: writer.counter(Word.REQUESTS) == before + 1 + SHARDS, WAIT)


def code_of_a_pull(address: str) -> str:
    with requester_of("gamma") as requester:
        error = pull(requester, address, SPEC, Inbox(SPEC)).error
        return error.code if error else ""


def test_upload_whose_last_reply_nobody_reads_keeps_its_place_until_the_reader_goes(
    serving: tuple[StoreWriter, RunningServer],
) -> None:
    writer, running = serving
    with contextlib.closing(SlowReader(running.address, "slow")) as reader:
        asked_for_all(writer, reader)
        assert code_of_a_pull(running.address) == "busy"
    # No time has passed for the server: it is the socket that has dropped the frames.
    assert wait_until(lambda: code_of_a_pull(running.address) == "", WAIT)


def test_upload_whose_last_reply_nobody_reads_keeps_its_place_no_longer_than_a_puller_may_pause(
    serving: tuple[StoreWriter, RunningServer],
) -> None:
    writer, running = serving
    with contextlib.closing(SlowReader(running.address, "slow")) as reader:
        asked_for_all(writer, reader)
        assert code_of_a_pull(running.address) == "busy"
        running.let_pass(10.0)
        assert code_of_a_pull(running.address) == ""


def test_upload_that_is_read_gives_its_place_to_the_next_puller(serving: tuple[StoreWriter, RunningServer]) -> None:
    _, running = serving
    for _ in range(3):
        assert wait_until(lambda: code_of_a_pull(running.address) == "", WAIT)
