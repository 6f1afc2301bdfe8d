"""Where everything stands in the store's memory; all words are 64-bit little-endian, each with a single writer.

```
0      header      words, see `Word`; slot headers from byte 1024, 128 bytes each
4096   status      a block written by the trainer (by the supervisor before there is one)
36864  view        a block written by the server: whom it knows
167936 spec        the rows of the WeightSpec, padded to a page
...    slots       five vectors, each padded to a page and followed by the digests of its shards, also padded
```
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from p2pdl.protocol.held import HELD_VERSIONS
from p2pdl.spec import shards_in

MAGIC = int.from_bytes(b"p2pdl\0\0\3", "little")
PAGE = 4096

LEASES = HELD_VERSIONS
"""Versions that the server may use at one time: as many as it holds."""

SLOTS = LEASES + 3
"""Also the newest version, the one that the trainer has pinned, and the one that it is writing: it never waits."""

BLOCK_WORDS = 3
"""Before the bytes of a block stand its sequence (odd while it is being replaced), their length and their digest."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands.

    Attributes:
        offset: Its first byte in the store, a multiple of 8.
        nbytes: Its size.
    """

    offset: int
    nbytes: int

    @property
    def stop(self) -> int:
        """The first byte behind it."""
        return self.offset + self.nbytes

    @property
    def limit(self) -> int:
        """Bytes that may be written to it."""
        return self.nbytes - 8 * BLOCK_WORDS


STATUS = Place(PAGE, 8 * PAGE)
VIEW = Place(STATUS.stop, 32 * PAGE)
SPEC_OFFSET = VIEW.stop
HEADER_BYTES = SPEC_OFFSET
"""Size of a store whose model is not known yet."""


class Word(IntEnum):
    """Index of each word in the header."""

    MAGIC = 0
    ELEMENTS = 1
    SPEC_BYTES = 2
    INCARNATION = 3
    READY = 4
    """Written last when a store is laid out: 1 when everything else is in place."""
    NEWEST = 5
    """version * SLOTS + slot of the newest complete publication; 0 before the first."""
    READ_VERSION = 17
    """The newest version that the server has leased for somebody."""
    BYTES_SENT = 18
    PAYLOAD_SENT = 19
    REQUESTS = 20
    REFUSALS = 21
    SERVER_STARTS = 22
    LEASED = 32
    """The first of one word for each slot: 1 while the server uses its version."""


class SlotWord(IntEnum):
    """Index of each word in a slot's header."""

    VERSION = 0
    STEP = 1
    SAMPLES = 2
    LOSS = 3
    """Bits of a double."""
    FINAL = 4
    DIGEST = 5
    PUBLISHED = 6
    """Bits of a double: seconds of the machine's monotonic clock."""


SLOT_HEADER_OFFSET = 1024
SLOT_HEADER_BYTES = 128


@dataclass(frozen=True, slots=True)
class Layout:
    """Byte offsets of a store for a model of a given size."""

    elements: int
    spec_bytes: int

    @property
    def slot_bytes(self) -> int:
        """Bytes from one slot to the next."""
        return padded(4 * self.elements) + padded(8 * self.shards)

    @property
    def shards(self) -> int:
        """Shards of one vector."""
        return shards_in(self.elements)

    def slot_offset(self, slot: int) -> int:
        """First byte of a slot's vector."""
        return SPEC_OFFSET + padded(self.spec_bytes) + slot * self.slot_bytes

    def digests_offset(self, slot: int) -> int:
        """First byte of the digests of a slot's shards."""
        return self.slot_offset(slot) + padded(4 * self.elements)

    @property
    def total_bytes(self) -> int:
        """Size of the whole store."""
        return self.slot_offset(SLOTS)


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages."""
    return -(-nbytes // PAGE) * PAGE
