"""A small block of bytes in the store's memory that one process replaces and others read whole, without a lock."""

from __future__ import annotations

import mmap

import xxhash

from p2pdl.errors import StoreError
from p2pdl.store.layout import BLOCK_WORDS, HEADER_BYTES, Place

ATTEMPTS = 3
"""How often a block is read again when its writer overtakes."""


class Block:
    """One end of a block.

    Args:
        descriptor: The store's file descriptor; stays the caller's.
        place: Which block.
    """

    def __init__(self, descriptor: int, place: Place) -> None:
        self._place = place
        self._map = mmap.mmap(descriptor, HEADER_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._first = place.offset // 8

    @property
    def sequence(self) -> int:
        """Changes with every `write`."""
        return self._words[self._first]

    @property
    def limit(self) -> int:
        """Bytes that may be written to it."""
        return self._place.limit

    def write(self, content: bytes) -> None:
        """Replace the block; for its one writer. It may die in the midst of it: then nothing can be read.

        Args:
            content: At most `place.limit` bytes.
        """
        if len(content) > self._place.limit:
            raise StoreError(f"a block of {len(content)} bytes is over the limit of {self._place.limit}")
        sequence = self._words[self._first] | 1
        self._words[self._first] = sequence
        start = self._place.offset + 8 * BLOCK_WORDS
        self._map[start : start + len(content)] = content
        self._words[self._first + 1] = len(content)
        self._words[self._first + 2] = xxhash.xxh3_64_intdigest(content)
        self._words[self._first] = sequence + 1

    def read(self) -> bytes | None:
        """The block; None if it is being replaced all the time, or was never written."""
        for _ in range(ATTEMPTS):
            sequence, length, digest = self._words[self._first : self._first + BLOCK_WORDS]
            if sequence % 2 or not 0 < length <= self._place.limit:
                continue
            start = self._place.offset + 8 * BLOCK_WORDS
            content = self._map[start : start + length]
            if self._words[self._first] == sequence and xxhash.xxh3_64_intdigest(content) == digest:
                return content
        return None

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        self._map.close()
