"""Where everything stands in the store's memory; all words are 64-bit little-endian, each with a single writer.

```
0      header      words, see `Word`; slot headers from byte 1024, 128 bytes each
4096   status      a block of at most STATUS_LIMIT bytes, written by the trainer (by the supervisor before it)
36864  spec        the rows of the WeightSpec, padded to a page
...    slots       three vectors, each padded to a page
```
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MAGIC = int.from_bytes(b"p2pdl\0\0\1", "little")
PAGE = 4096
SLOTS = 3
STATUS_OFFSET = PAGE
STATUS_BYTES = 8 * PAGE
STATUS_LIMIT = STATUS_BYTES - 24
SPEC_OFFSET = STATUS_OFFSET + STATUS_BYTES
HEADER_BYTES = SPEC_OFFSET
"""Size of a store whose model is not known yet."""


class Word(IntEnum):
    """Index of each word in the header."""

    MAGIC = 0
    ELEMENTS = 1
    SPEC_BYTES = 2
    INCARNATION = 3
    READY = 4
    """Written last by `StoreWriter.format`: 1 when everything else is in place."""
    NEWEST = 5
    """version * SLOTS + slot of the newest complete publication; 0 before the first."""
    READING = 16
    """1 + the slot that the server is copying; 0 when it copies none."""
    READ_VERSION = 17
    """The newest version that the server has copied for somebody."""
    BYTES_SENT = 18
    PAYLOAD_SENT = 19
    REQUESTS = 20
    REFUSALS = 21
    SERVER_STARTS = 22


class SlotWord(IntEnum):
    """Index of each word in a slot's header."""

    SEQUENCE = 0
    """Odd while the slot is being written."""
    VERSION = 1
    STEP = 2
    SAMPLES = 3
    LOSS = 4
    """Bits of a double."""
    FINAL = 5
    DIGEST = 6
    PUBLISHED = 7
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
        return padded(4 * self.elements)

    def slot_offset(self, slot: int) -> int:
        """First byte of a slot's vector."""
        return SPEC_OFFSET + padded(self.spec_bytes) + slot * self.slot_bytes

    @property
    def total_bytes(self) -> int:
        """Size of the whole store."""
        return self.slot_offset(SLOTS)


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages."""
    return -(-nbytes // PAGE) * PAGE
