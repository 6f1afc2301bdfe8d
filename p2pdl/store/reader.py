"""The server's end of the store: whole versions where they lie, leased for as long as anything refers to them."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import weakref

import numpy as np

from p2pdl.spec import Snapshot, SnapshotInfo, combine_digests
from p2pdl.store.block import Block
from p2pdl.store.layout import (
    HEADER_BYTES,
    LEASES,
    PAGE,
    SLOT_HEADER_BYTES,
    SLOT_HEADER_OFFSET,
    SLOTS,
    SPEC_OFFSET,
    STATUS,
    Layout,
    SlotWord,
    Word,
)
from p2pdl.types import Float32Vector

ATTEMPTS = 3
"""How often a version is leased again when the writer overtakes."""


class StoreReader:
    """Reads versions, the spec and the status.

    Args:
        descriptor: The store's file descriptor; stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, HEADER_BYTES)
        self._header = memoryview(self._map)[:PAGE].cast("Q")
        self._status = Block(descriptor, STATUS)
        self._store: mmap.mmap | None = None
        self._leases: dict[int, weakref.ref[Float32Vector]] = {}
        self._wanted_lease = False

    def take_over(self) -> None:
        """Become the reader that serves the store, in place of one that may have died with leases."""
        for slot in range(SLOTS):
            self._header[Word.LEASED + slot] = 0
        self.count(Word.SERVER_STARTS)

    @property
    def is_ready(self) -> bool:
        """True once the trainer has laid out the model."""
        return bool(self._header[Word.READY])

    @property
    def incarnation(self) -> str:
        """Random name of the trainer's life; empty before the first."""
        return f"{self._header[Word.INCARNATION]:016x}" if self.is_ready else ""

    def spec_rows(self) -> bytes:
        """The rows of the model's WeightSpec; empty while it is not known."""
        if not self.is_ready:
            return b""
        return os.pread(self._descriptor, self._header[Word.SPEC_BYTES], SPEC_OFFSET)

    def newest_version(self) -> int | None:
        """Counter of the newest version; None before the first."""
        return self._header[Word.NEWEST] // SLOTS or None if self.is_ready else None

    @property
    def is_starved(self) -> bool:
        """True while a new version cannot be leased because so many others are still being sent to somebody."""
        return self._wanted_lease and len(self._used()) >= LEASES

    def load(self) -> Snapshot | None:
        """The newest version, which stays as it is while anything refers to its vector or a slice of it.

        Returns:
            The version, its vector read-only; None if there is none, or the writer was always faster, or as many
            versions as may be are in use, or connections have taken every descriptor that mapping the weights needs.
        """
        for _ in range(ATTEMPTS):
            newest = self._header[Word.NEWEST] if self.is_ready else 0
            if not newest or (store := self._mapped()) is None:
                return None
            slot = newest % SLOTS
            used = self._used()
            self._wanted_lease = slot not in used and len(used) >= LEASES
            if self._wanted_lease:
                return None
            self._header[Word.LEASED + slot] = 1
            # Still the newest, after it has been leased: the writer has not begun to write over it, and will not.
            if self._header[Word.NEWEST] == newest:
                return self._snapshot(store, slot, newest // SLOTS, used.get(slot))
            if slot not in used:
                self._header[Word.LEASED + slot] = 0
        return None

    def status(self) -> bytes | None:
        """The status block; None if it is being rewritten all the time, or was never written."""
        return self._status.read()

    def count(self, word: Word, amount: int = 1) -> None:
        """Add to one of the server's counters."""
        self._header[word] += amount

    def counter(self, word: Word) -> int:
        """One of the server's counters."""
        return self._header[word]

    def close(self) -> None:
        """Unmap the header; the weights are unmapped when nothing refers to them any more."""
        self._header.release()
        self._map.close()
        self._status.close()
        self._store = None

    def _used(self) -> dict[int, Float32Vector]:
        """The leased vectors by slot; leases to which nothing refers any more are ended."""
        used = {slot: vector for slot, lease in self._leases.items() if (vector := lease()) is not None}
        for slot in self._leases.keys() - used.keys():
            # Here and not when the last reference goes: that is in a thread of the transport.
            self._header[Word.LEASED + slot] = 0
            del self._leases[slot]
        return used

    def _layout(self) -> Layout:
        return Layout(self._header[Word.ELEMENTS], self._header[Word.SPEC_BYTES])

    def _mapped(self) -> mmap.mmap | None:
        """The whole store, mapped when it is first read."""
        if self._store is None:
            try:
                self._store = mmap.mmap(self._descriptor, self._layout().total_bytes, prot=mmap.PROT_READ)
            except OSError as error:
                # Python's mmap duplicates the descriptor, and strangers' connections may have taken the last one.
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
        return self._store

    def _snapshot(self, store: mmap.mmap, slot: int, version: int, vector: Float32Vector | None) -> Snapshot | None:
        layout = self._layout()
        if vector is None:
            # Slices refer to this array and not to the memory below it: when it has gone, they all have.
            vector = np.frombuffer(store, np.float32, layout.elements, layout.slot_offset(slot))
            self._leases[slot] = weakref.ref(vector)
        digests = np.frombuffer(store, np.uint64, layout.shards, layout.digests_offset(slot)).tolist()
        first = (SLOT_HEADER_OFFSET + slot * SLOT_HEADER_BYTES) // 8
        words = list(self._header[first : first + len(SlotWord)])
        if words[SlotWord.VERSION] != version or combine_digests(digests) != words[SlotWord.DIGEST]:
            return None
        self._header[Word.READ_VERSION] = version
        info = SnapshotInfo(
            version=version,
            step=words[SlotWord.STEP],
            samples=words[SlotWord.SAMPLES],
            loss=double(words[SlotWord.LOSS]),
            final=bool(words[SlotWord.FINAL]),
            digest=words[SlotWord.DIGEST],
            published=double(words[SlotWord.PUBLISHED]),
        )
        return Snapshot(info, vector, tuple(digests))


def double(word: int) -> float:
    """The double whose bits are `word`."""
    return float(struct.unpack("<d", struct.pack("<Q", word))[0])
