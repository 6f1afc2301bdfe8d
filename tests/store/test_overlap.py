"""A load and publications that overlap word by word: the writer stops wherever the reader's schedule stops it.

Unlike whole publications in the midst of a load, this reaches the moment in which the writer has chosen a slot and the
reader leases that same slot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.store.reader import StoreReader
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector
from tests.stores import dense_spec, new_store

SHARD = 32
SPEC = dense_spec(2 * SHARD)
HEADSTART = 2
"""Versions published before the load begins."""


class Watched:
    """Words of the store, each access to one of which is a moment at which the other side may move."""

    def __init__(self, words: Any, moment: Callable[[], None]) -> None:
        self._words = words
        self._moment = moment

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self._words)))]
        self._moment()
        return self._words[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self._moment()
        self._words[place] = value

    def release(self) -> None:
        self._words.release()


class SteppedWriter:
    """A writer that publishes for ever in a thread, and moves on by one moment at each `step`."""

    def __init__(self, descriptor: int) -> None:
        self._writer = StoreWriter(descriptor, SPEC)
        slot_words = self._writer._slot_words
        self._writer._slot_words = lambda slot: Watched(slot_words(slot), self._moment)  # type: ignore
        self._stepping = False
        self._stopping = False
        self._go, self._still = threading.Semaphore(0), threading.Semaphore(0)
        self.publish()
        self.publish()
        self._stepping = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def publish(self) -> None:
        """Version n holds n everywhere, and so do its step and its samples."""
        number = self._writer._version + 1

        def fill(target: Float32Vector) -> None:
            for start in range(0, target.size, SHARD // 2):
                self._moment()
                target[start : start + SHARD // 2] = number

        self._writer.publish(fill, step=number, samples=number, loss=number / 2)

    def step(self) -> None:
        self._go.release()
        self._still.acquire()

    def close(self) -> None:
        self._stopping = True
        self.step()
        self._thread.join()
        self._writer.close()

    def _moment(self) -> None:
        if self._stepping and not self._stopping:
            self._still.release()
            self._go.acquire()

    def _run(self) -> None:
        self._go.acquire()
        while not self._stopping:
            self.publish()
        self._still.release()


@settings(max_examples=300)
@given(schedule=st.lists(st.integers(0, 12), max_size=60), before=st.integers(0, 40), after=st.integers(0, 60))
def test_load_overlapping_publications_word_by_word_is_one_version_whole(
    schedule: list[int], before: int, after: int
) -> None:
    steps = iter(schedule)

    def moment() -> None:
        for _ in range(next(steps, 0)):
            writer.step()

    with new_store() as descriptor:
        writer, reader = SteppedWriter(descriptor), StoreReader(descriptor)
        reader._header = Watched(reader._header, moment)  # type: ignore[assignment]
        try:
            for _ in range(before):
                writer.step()
            snapshot = reader.load()
            for _ in range(after):
                writer.step()
            if snapshot is None:
                assert any(schedule)
                return
            info = snapshot.info
            assert info.version >= HEADSTART
            assert (info.step, info.samples, info.loss) == (info.version, info.version, info.version / 2)
            np.testing.assert_array_equal(snapshot.vector, np.full(SPEC.size, info.version, np.float32))
        finally:
            writer.close()
            reader.close()
