"""The server's end of the store: private copies of whole versions, their digests checked.

Weights are read with `preadv`, not mapped: the server's resident memory holds its copies and nothing else.
"""

from __future__ import annotations

import mmap
import os
import struct

import xxhash

from p2pdl.spec import SHARD_ELEMENTS, Snapshot, SnapshotInfo, combine_digests, shard_digest
from p2pdl.store.buffers import VectorBuffers
from p2pdl.store.layout import (
    HEADER_BYTES,
    PAGE,
    SLOT_HEADER_BYTES,
    SLOT_HEADER_OFFSET,
    SLOTS,
    SPEC_OFFSET,
    STATUS_LIMIT,
    STATUS_OFFSET,
    Layout,
    SlotWord,
    Word,
)
from p2pdl.types import Float32Vector

BUFFERS = 3
"""Versions in memory: the two that a server holds, and one whose last parts are still being sent."""

ATTEMPTS = 3
"""How often a version is read again when the writer overtakes."""


class StoreReader:
    """Reads versions, the spec and the status.

    Args:
        descriptor: The store's file descriptor; stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, HEADER_BYTES)
        self._header = memoryview(self._map)[:PAGE].cast("Q")
        self._buffers: VectorBuffers | None = None
        self._wanted_buffer = False

    def take_over(self) -> None:
        """Become the reader that serves the store, in place of one that may have died in the middle of a copy."""
        self._header[Word.READING] = 0
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
        """True while a new version cannot be read because every buffer is still being sent to somebody."""
        return self._wanted_buffer and self._buffers is not None and self._buffers.is_exhausted

    def load(self) -> Snapshot | None:
        """A private copy of the newest version.

        Returns:
            The version, its vector read-only; None if there is none, or the writer was always faster, or died in the
            middle of one, or there is no memory for it now.
        """
        for _ in range(ATTEMPTS):
            newest = self._header[Word.NEWEST] if self.is_ready else 0
            if not newest:
                return None
            slot = newest % SLOTS
            vector = self._vector()
            if vector is None:
                return None
            self._header[Word.READING] = slot + 1
            try:
                snapshot = self._copy(slot, vector)
            finally:
                self._header[Word.READING] = 0
            if snapshot is not None and snapshot.info.version == newest // SLOTS:
                self._header[Word.READ_VERSION] = snapshot.info.version
                return snapshot
        return None

    def status(self) -> bytes | None:
        """The status block; None if it is being rewritten all the time, or was never written."""
        words = memoryview(self._map).cast("Q")
        first = STATUS_OFFSET // 8
        try:
            for _ in range(ATTEMPTS):
                sequence, length, digest = words[first], words[first + 1], words[first + 2]
                if sequence % 2 or not 0 < length <= STATUS_LIMIT:
                    continue
                status = self._map[STATUS_OFFSET + 24 : STATUS_OFFSET + 24 + length]
                if words[first] == sequence and xxhash.xxh3_64_intdigest(status) == digest:
                    return status
        finally:
            words.release()
        return None

    def count(self, word: Word, amount: int = 1) -> None:
        """Add to one of the server's counters."""
        self._header[word] += amount

    def counter(self, word: Word) -> int:
        """One of the server's counters."""
        return self._header[word]

    def close(self) -> None:
        """Unmap the header."""
        self._header.release()
        self._map.close()

    def _vector(self) -> Float32Vector | None:
        if self._buffers is None:
            self._buffers = VectorBuffers(self._header[Word.ELEMENTS], BUFFERS)
        vector = self._buffers.take()
        self._wanted_buffer = vector is None
        return vector

    def _copy(self, slot: int, vector: Float32Vector) -> Snapshot | None:
        first = (SLOT_HEADER_OFFSET + slot * SLOT_HEADER_BYTES) // 8
        before = list(self._header[first : first + len(SlotWord)])
        layout = Layout(self._header[Word.ELEMENTS], self._header[Word.SPEC_BYTES])
        digests = []
        for start in range(0, vector.size, SHARD_ELEMENTS):
            shard = vector[start : start + SHARD_ELEMENTS]
            if os.preadv(self._descriptor, [shard.data], layout.slot_offset(slot) + 4 * start) != shard.nbytes:
                return None
            # Hashed at once, while the shard is still in the processor's cache.
            digests.append(shard_digest(shard))
        if list(self._header[first : first + len(SlotWord)]) != before or before[SlotWord.SEQUENCE] % 2:
            return None
        if combine_digests(digests) != before[SlotWord.DIGEST]:
            return None
        vector.flags.writeable = False
        info = SnapshotInfo(
            version=before[SlotWord.VERSION],
            step=before[SlotWord.STEP],
            samples=before[SlotWord.SAMPLES],
            loss=double(before[SlotWord.LOSS]),
            final=bool(before[SlotWord.FINAL]),
            digest=before[SlotWord.DIGEST],
            published=double(before[SlotWord.PUBLISHED]),
        )
        return Snapshot(info, vector, tuple(digests))


def double(word: int) -> float:
    """The double whose bits are `word`."""
    return float(struct.unpack("<d", struct.pack("<Q", word))[0])
