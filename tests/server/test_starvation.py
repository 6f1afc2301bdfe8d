"""Readers that do not read: after a minute of it all connections are dropped, and the newest version is served."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import PeerError
from p2pdl.protocol.messages import StatusRequest
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.server.starvation import STARVED_SECONDS, Starvation
from p2pdl.store.layout import LEASES, Word
from p2pdl.store.reader import StoreReader
from tests.processes import wait_until
from tests.puller.pulling import WAIT, pull, requester_of
from tests.server.running import SHARDS, SPEC, RunningServer, SlowReader
from tests.stores import new_store, publish, random_vector, writing


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), max_size=40))
def test_connections_are_dropped_after_a_minute_of_starvation_without_a_break(
    looks: list[tuple[float, bool]],
) -> None:
    starvation = Starvation()
    now = 100.0
    starved_from: float | None = None
    for seconds, starved in looks:
        now += seconds
        if not starved:
            starved_from = None
        elif starved_from is None:
            starved_from = now
        expected = starved_from is not None and now - starved_from > STARVED_SECONDS
        assert starvation.is_over_long(starved, now) is expected
        if expected:
            starved_from = None


def test_starvation_that_goes_on_drops_connections_once_a_minute() -> None:
    starvation = Starvation()
    drops = [now for now in range(400) if starvation.is_over_long(True, float(now))]
    assert drops == [61, 123, 185, 247, 309, 371]


def test_starved_server_drops_its_readers_and_serves_old_and_new_pullers_the_newest_version() -> None:
    with new_store() as store, contextlib.ExitStack() as stack:
        writer = stack.enter_context(writing(store, SPEC))
        running = stack.enter_context(contextlib.closing(RunningServer(store)))
        beta = stack.enter_context(requester_of("beta"))
        vector, inbox = random_vector(SPEC.size), Inbox(SPEC)
        publish(writer, vector)
        assert pull(beta, running.address, SPEC, inbox).error is None
        for number in range(LEASES):
            vector[0] = number
            publish(writer, vector)
            reader = stack.enter_context(contextlib.closing(SlowReader(running.address, f"slow{number}")))
            asked = writer.counter(Word.REQUESTS)
            reader.ask_for_all()
            assert wait_until(lambda asked=asked: writer.counter(Word.REQUESTS) == asked + 1 + SHARDS, WAIT)
            # Its place is for others when it has paused for longer than anybody does.
            running.let_pass(10.0)
        vector[0] = 99.0
        newest = publish(writer, vector)
        assert newest is not None
        older = pull(beta, running.address, SPEC, inbox)
        assert older.snapshot is not None and older.snapshot.version < newest, "every buffer is taken"
        assert running.reader.is_starved
        # The server looks several times a second: it notes the beginning before the minute is over.
        running.let_pass(1.0)
        assert not wait_until(lambda: running.resets, 0.5)
        running.let_pass(STARVED_SECONDS + 1.0)
        assert wait_until(lambda: running.resets == 1, WAIT)
        for name in ("beta", "gamma"):
            requester = beta if name == "beta" else stack.enter_context(requester_of(name))

            def is_pulled(requester: Requester = requester) -> bool:
                outcome = pull(requester, running.address, SPEC, inbox)
                return outcome.snapshot is not None and outcome.snapshot.version == newest

            assert wait_until(is_pulled, WAIT)
            np.testing.assert_array_equal(inbox.vector, vector)
        assert running.is_running and running.resets == 1 and not running.reader.is_starved


def test_request_that_comes_in_the_moment_of_the_reset_does_not_end_the_server() -> None:
    with new_store() as store, contextlib.ExitStack() as stack:
        running = stack.enter_context(contextlib.closing(RunningServer(store)))
        running.reader.__class__ = AlwaysStarved
        stop = threading.Event()

        def pass_minutes() -> None:
            while not stop.wait(0.002):
                running.let_pass(STARVED_SECONDS)

        minutes = threading.Thread(target=pass_minutes)
        minutes.start()
        try:
            with requester_of() as requester:
                give_up_at = time.monotonic() + 60.0
                while running.resets < 20 and running.is_running and time.monotonic() < give_up_at:
                    with contextlib.suppress(PeerError):
                        requester.ask(running.address, StatusRequest(), 0.05)
        finally:
            stop.set()
            minutes.join()
        assert running.is_running and running.resets >= 20


class AlwaysStarved(StoreReader):
    """A reader whose memory is never enough."""

    @property
    def is_starved(self) -> bool:
        return True
