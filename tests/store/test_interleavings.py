"""Writer, reader and their deaths in any order: what is loaded is exactly one published version, or nothing.

Every access of the reader to the header may be interrupted by publications; every publication may be interrupted by
loads. What is leased is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2pdl.spec import Snapshot
from p2pdl.store import memory
from p2pdl.store.layout import LEASES, SLOTS, Word
from p2pdl.store.reader import StoreReader
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector
from tests.stores import dense_spec

SHARD = 32
SPEC = dense_spec(2 * SHARD + 16)
PLANS = st.lists(st.sampled_from(["", "", "publish", "publish twice", "fail"]), max_size=14)


class Killed(BaseException):
    """The process is gone: nothing after this point is done by it."""


class Interrupted:
    """A header of the store whose every access is preceded by something else happening."""

    def __init__(self, header: Any, interrupt: Callable[[], None]) -> None:
        self._header = header
        self._interrupt = interrupt

    def __getitem__(self, place: Any) -> Any:
        self._interrupt()
        return self._header[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self._interrupt()
        self._header[place] = value

    def release(self) -> None:
        self._header.release()


class InterruptingClock:
    """A clock that lets something happen whenever it is read."""

    def __init__(self) -> None:
        self.interrupt: Callable[[], None] = lambda: None

    def now(self) -> float:
        self.interrupt()
        return 1.0


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.descriptor = memory.create()
        self.clock = InterruptingClock()
        self.writer = StoreWriter(self.descriptor, SPEC, self.clock)
        self.plan: list[str] = []
        self.reader = self.new_reader()
        self.published: dict[int, Float32Vector] = {}
        self.newest = 0
        self.filled = 0
        self.damaged = False
        self.pinned: tuple[int, Float32Vector, Float32Vector] | None = None
        self.held: list[Snapshot] = []

    def teardown(self) -> None:
        if not hasattr(self, "descriptor"):
            return
        self.pinned = None
        self.held.clear()
        self.reader.close()
        self.writer.close()
        os.close(self.descriptor)

    def new_reader(self) -> StoreReader:
        reader = StoreReader(self.descriptor)
        reader.take_over()
        reader._header = Interrupted(reader._header, self.interrupt)  # type: ignore[assignment]
        return reader

    def interrupt(self) -> None:
        """What the other process does at this moment of a load."""
        match self.plan.pop(0) if self.plan else "":
            case "publish":
                self.publish_once()
            case "publish twice":
                self.publish_once()
                self.publish_once()
            case "fail":
                self.fail_once()

    # What the writer does.

    def taken(self) -> set[int]:
        words = self.writer._header
        taken = {slot for slot in range(SLOTS) if words[Word.LEASED + slot]}
        if self.newest:
            taken.add(words[Word.NEWEST] % SLOTS)
        if self.pinned:
            taken.add(self.pinned[0])
        return taken

    def publish_once(self) -> None:
        plan, self.plan = self.plan, []
        taken = self.taken()
        before = {slot: self.writer._slots[slot].copy() for slot in taken}
        self.filled += 1
        vector = np.arange(SPEC.size, dtype=np.float32) + 1000 * self.filled
        version = self.writer.publish(
            lambda target: np.copyto(target, vector), step=self.filled, samples=self.filled, loss=self.filled / 2
        )
        for slot, content in before.items():
            np.testing.assert_array_equal(self.writer._slots[slot], content)
        assert version == self.newest + 1
        self.newest, self.damaged = version, False
        self.published[version] = vector
        self.plan = plan

    def fail_once(self) -> None:
        def fill(target: Float32Vector) -> None:
            target[: SHARD + 5] = -1
            raise MemoryError

        with pytest.raises(MemoryError):
            self.writer.publish(fill, step=0, samples=0, loss=0.0)

    @rule()
    def publish(self) -> None:
        self.publish_once()

    @rule()
    def fill_raises(self) -> None:
        self.fail_once()

    @rule(moment=st.sampled_from(["fill", "clock"]))
    def load_in_mid_publication(self, moment: str) -> None:
        known = self.newest

        def load() -> None:
            self.check(self.reader.load(), known, known)

        def fill(target: Float32Vector) -> None:
            np.copyto(target[: SPEC.size // 2], vector[: SPEC.size // 2])
            if moment == "fill":
                load()
            np.copyto(target, vector)

        self.filled += 1
        vector = np.arange(SPEC.size, dtype=np.float32) + 1000 * self.filled
        self.clock.interrupt = load if moment == "clock" else lambda: None
        version = self.writer.publish(fill, step=self.filled, samples=self.filled, loss=self.filled / 2)
        self.clock.interrupt = lambda: None
        assert version == known + 1
        self.newest, self.damaged, self.published[version] = version, False, vector

    @rule(moment=st.sampled_from(["before", "fill", "clock"]))
    def writer_is_killed_and_started_again(self, moment: str) -> None:
        def die() -> None:
            raise Killed

        def fill(target: Float32Vector) -> None:
            target[: SHARD // 2] = 7
            if moment == "fill":
                die()

        if moment != "before":
            self.clock.interrupt = die
            with pytest.raises(Killed):
                self.writer.publish(fill, step=0, samples=0, loss=0.0)
            self.clock.interrupt = lambda: None
        life = self.writer.incarnation
        self.pinned = None
        self.writer.close()
        self.writer = StoreWriter(self.descriptor, SPEC, self.clock)
        assert self.writer.incarnation != life

    @precondition(lambda self: self.newest and not self.damaged)
    @rule()
    def pin(self) -> None:
        view = self.writer.pin_newest()
        self.pinned = (self.writer._header[Word.NEWEST] % SLOTS, view, view.copy())
        np.testing.assert_array_equal(view, self.published[self.newest])

    @rule()
    def unpin(self) -> None:
        self.writer.unpin()
        self.pinned = None

    @precondition(lambda self: self.newest and not self.damaged)
    @rule()
    def digests_are_damaged(self) -> None:
        self.writer._digests[self.writer._header[Word.NEWEST] % SLOTS][0] ^= np.uint64(1 + self.filled)
        self.damaged = True

    # What the reader does.

    def check(self, snapshot: Snapshot | None, oldest: int, newest: int) -> None:
        """The load was of one version from `oldest` to `newest`, or of none for a reason."""
        if snapshot is None:
            assert newest == 0 or self.damaged or newest > oldest or self.is_starved()
            return
        self.held.append(snapshot)
        info = snapshot.info
        assert max(oldest, 1) <= info.version <= newest
        np.testing.assert_array_equal(snapshot.vector, self.published[info.version])
        filled = int(snapshot.vector[0]) // 1000
        assert (info.step, info.samples, info.loss, info.published) == (filled, filled, filled / 2, 1.0)

    def is_starved(self) -> bool:
        """True if as many versions as may be are in use, and the newest is not among them."""
        versions = {snapshot.info.version for snapshot in self.held}
        return len(versions) >= LEASES and self.newest not in versions

    @rule()
    def load(self) -> None:
        starved = self.is_starved()
        snapshot = self.reader.load()
        assert (snapshot is None) == (self.newest == 0 or self.damaged or starved)
        assert self.newest == 0 or self.reader.is_starved == starved
        self.check(snapshot, self.newest, self.newest)
        if snapshot is not None:
            assert self.writer.newest_was_read

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 100))
    def release(self, place: int) -> None:
        self.held.pop(place % len(self.held))

    @rule(plan=PLANS)
    def load_in_mid_of_which_things_happen(self, plan: list[str]) -> None:
        oldest, was_damaged = self.newest, self.damaged
        self.plan = plan
        snapshot = self.reader.load()
        self.plan = []
        if snapshot is None and was_damaged:
            return
        self.check(snapshot, oldest, self.newest)

    @rule()
    def reader_is_killed_and_started_again(self) -> None:
        self.held.clear()
        self.reader.close()
        self.reader = self.new_reader()
        assert not any(self.writer._header[Word.LEASED + slot] for slot in range(SLOTS))

    @invariant()
    def newest_is_known_and_what_is_pinned_or_leased_is_untouched(self) -> None:
        assert self.reader.newest_version() == (self.newest or None)
        if self.pinned:
            np.testing.assert_array_equal(self.pinned[1], self.pinned[2])
        for snapshot in self.held:
            np.testing.assert_array_equal(snapshot.vector, self.published[snapshot.info.version])


StoreMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
TestStoreInAnyOrder = StoreMachine.TestCase
