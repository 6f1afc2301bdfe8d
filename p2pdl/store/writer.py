"""The trainer's end of the store: publishes versions, never waits, never overwrites what is being read."""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from collections.abc import Callable, Iterable

import numpy as np

from p2pdl.clock import Clock, MonotonicClock
from p2pdl.codec.finite import is_finite
from p2pdl.errors import DivergedError, StoreError
from p2pdl.failpoints import reach
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, combine_digests, shard_digest, shard_of
from p2pdl.store import memory
from p2pdl.store.layout import (
    HEADER_BYTES,
    MAGIC,
    PAGE,
    SLOT_HEADER_BYTES,
    SLOT_HEADER_OFFSET,
    SLOTS,
    SPEC_OFFSET,
    Layout,
    SlotWord,
    Word,
)
from p2pdl.types import Float32Vector


class StoreWriter:
    """Publishes versions of a model's weights.

    Args:
        descriptor: The store's file descriptor; stays the caller's.
        spec: The model's layout; a store keeps the layout of its first trainer.
        clock: Source of the publication times.

    Raises:
        StoreTooLarge: The machine does not have the memory.
        StoreError: The store was made for another model.
    """

    def __init__(self, descriptor: int, spec: WeightSpec, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        rows = "\n".join(spec.rows()).encode()
        layout = Layout(spec.size, len(rows))
        size = os.fstat(descriptor).st_size
        if size == HEADER_BYTES:
            memory.grow(descriptor, layout.total_bytes)
            memory.seal(descriptor)
        elif size != layout.total_bytes:
            raise StoreError("this store was made for another model")
        self._map = mmap.mmap(descriptor, layout.total_bytes)
        self._header = memoryview(self._map)[:PAGE].cast("Q")
        if self._header[Word.MAGIC] != MAGIC:
            raise StoreError("this is no store of this version of p2pdl")
        stored = self._map[SPEC_OFFSET : SPEC_OFFSET + self._header[Word.SPEC_BYTES]]
        if self._header[Word.READY] and stored != rows:
            raise StoreError("this store was made for another model")
        self._map[SPEC_OFFSET : SPEC_OFFSET + len(rows)] = rows
        self._slots = [
            np.frombuffer(self._map, np.float32, spec.size, layout.slot_offset(slot)) for slot in range(SLOTS)
        ]
        self._digests = [
            np.frombuffer(self._map, np.uint64, layout.shards, layout.digests_offset(slot)) for slot in range(SLOTS)
        ]
        self._version = self._header[Word.NEWEST] // SLOTS
        self._pinned: int | None = None
        self._header[Word.ELEMENTS] = spec.size
        self._header[Word.SPEC_BYTES] = len(rows)
        self._header[Word.INCARNATION] = secrets.randbits(64) or 1
        self._header[Word.READY] = 1

    @property
    def incarnation(self) -> str:
        """Random name of this writer's life, as peers see it."""
        return f"{self._header[Word.INCARNATION]:016x}"

    @property
    def newest_was_read(self) -> bool:
        """True if the server has leased the newest version for somebody, or there is none yet."""
        return self._header[Word.READ_VERSION] >= self._version

    def counter(self, word: Word) -> int:
        """One of the server's counters."""
        return self._header[word]

    def publish(
        self,
        fill: Callable[[Float32Vector], Iterable[int] | None],
        *,
        step: int,
        samples: int,
        loss: float,
        final: bool = False,
    ) -> int:
        """Publish a new version.

        Args:
            fill: Writes the whole vector into the array it is given. If it does so piece by piece from the beginning
                on, it gives after each the element up to which it has come: what is in the cache is hashed at once.
            step: Optimizer steps behind the weights.
            samples: Training samples behind them.
            loss: Smoothed training loss; NaN if there is none yet.
            final: True for the last weights of a finished node.

        Returns:
            The version.

        Raises:
            DivergedError: A weight is not finite; the version before stays the newest.
        """
        slot = self._free_slot()
        words = self._slot_words(slot)
        vector = self._slots[slot]
        digests: list[int] = []
        for reached in fill(vector) or ():
            while (len(digests) + 1) * SHARD_ELEMENTS <= reached:
                digests.append(_digest_of_finite(shard_of(vector, len(digests)), step))
        while len(digests) < self._digests[slot].size:
            digests.append(_digest_of_finite(shard_of(vector, len(digests)), step))
        self._version += 1
        words[SlotWord.VERSION] = self._version
        words[SlotWord.STEP] = step
        words[SlotWord.SAMPLES] = samples
        words[SlotWord.LOSS] = bits(loss)
        words[SlotWord.FINAL] = int(final)
        reach("store.half-published")
        # For the server, which then need not read what it sends.
        self._digests[slot][:] = digests
        words[SlotWord.DIGEST] = combine_digests(digests)
        words[SlotWord.PUBLISHED] = bits(self._clock.now())
        self._header[Word.NEWEST] = self._version * SLOTS + slot
        return self._version

    def pin_newest(self) -> Float32Vector:
        """The newest version's vector, read-only, which stays as it is until `unpin`.

        Raises:
            StoreError: Nothing has been published.
        """
        if not self._version:
            raise StoreError("nothing has been published yet")
        self._pinned = self._header[Word.NEWEST] % SLOTS
        view = self._slots[self._pinned].view()
        view.flags.writeable = False
        return view

    def unpin(self) -> None:
        """Let the pinned slot be used again."""
        self._pinned = None

    def close(self) -> None:
        """Unmap the store, as soon as no pinned vector is in use any more."""
        self._slots.clear()
        self._digests.clear()
        self._header.release()
        del self._map

    def _free_slot(self) -> int:
        newest = self._header[Word.NEWEST] % SLOTS if self._header[Word.NEWEST] else None
        # The server leases no version but the newest: what is free here stays so while it is written.
        return next(
            slot for slot in range(SLOTS) if slot not in (newest, self._pinned) and not self._header[Word.LEASED + slot]
        )

    def _slot_words(self, slot: int) -> memoryview:
        first = (SLOT_HEADER_OFFSET + slot * SLOT_HEADER_BYTES) // 8
        return self._header[first : first + SLOT_HEADER_BYTES // 8]


def _digest_of_finite(shard: Float32Vector, step: int) -> int:
    if not is_finite(shard):
        raise DivergedError(
            f"the weights of step {step} are not finite: training has diverged; nothing of it was published"
        )
    return shard_digest(shard)


def bits(value: float) -> int:
    """The bits of a double as an integer."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])
