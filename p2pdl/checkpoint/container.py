"""The layout of a checkpoint's bytes: magic, header with its digest, then each array at a multiple of 64 bytes.

| bytes | what |
|---|---|
| 0 to 7 | magic, which names the version of the layout |
| 8 to 15 | length of the header in bytes, little-endian |
| 16 to 23 | xxh3 of the header, little-endian |
| 24 on | the header: JSON, an object with the caller's `header` and one row of `arrays` for each array |
| at the next multiple of 64 | the arrays, little-endian, each padded with zeros to a multiple of 64 |

An array's offset counts from the first array, so that it does not depend on the length of the header.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import xxhash

from p2pdl.errors import CheckpointDamaged, CheckpointError
from p2pdl.types import JsonObject

MAGIC = b"p2pdl-c1"
PREFIX = struct.Struct("<8sQQ")
ALIGNMENT = 64

DTYPES: dict[str, np.dtype[Any]] = {
    **{
        name: np.dtype(name).newbyteorder("<")
        for name in (
            *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            *("float16", "float32", "float64"),
        )
    },
    **{
        kind.__name__: np.dtype(kind)
        for kind in (
            ml_dtypes.bfloat16,
            ml_dtypes.float8_e4m3fn,
            ml_dtypes.float8_e5m2,
            ml_dtypes.int4,
            ml_dtypes.uint4,
        )
    },
}
"""What an array can be made of: every dtype of a Keras variable."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One array's row of the header.

    Attributes:
        name: Its name, any text, unique.
        dtype: A key of `DTYPES`.
        shape: Its shape; () for a scalar.
        offset: First byte, counted from the first array; a multiple of `ALIGNMENT`.
        digest: 16 hexadecimal digits, the 64-bit xxh3 of its bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    digest: str

    @property
    def nbytes(self) -> int:
        """Bytes of the array, padding not counted."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize


def padding(nbytes: int) -> int:
    """Bytes from here to the next multiple of `ALIGNMENT`."""
    return -nbytes % ALIGNMENT


def layout(arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    """Place arrays one after another; their digests are still missing.

    Raises:
        CheckpointError: An array has a dtype that a checkpoint does not hold.
    """
    entries: list[Entry] = []
    offset = 0
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise CheckpointError(
                f"the array {name!r} is made of {array.dtype}, which a checkpoint does not hold",
                f"convert it to one of {', '.join(DTYPES)}",
            )
        entry = Entry(name, array.dtype.name, array.shape, offset, "0" * 16)
        entries.append(entry)
        offset += entry.nbytes + padding(entry.nbytes)
    return entries


def encode_head(header: JsonObject, entries: list[Entry]) -> bytes:
    """Everything before the first array; its length does not depend on the digests.

    Raises:
        TypeError: The header holds something that JSON has no form for.
    """
    text = json.dumps({"header": header, "arrays": [asdict(entry) for entry in entries]}).encode()
    head = PREFIX.pack(MAGIC, len(text), xxhash.xxh3_64_intdigest(text)) + text
    return head + bytes(padding(len(head)))


def header_length(prefix: bytes, file_bytes: int) -> tuple[int, int]:
    """Length and digest of the header, from the first `PREFIX.size` bytes of a file.

    Raises:
        CheckpointDamaged: They are not the beginning of a checkpoint of that size.
    """
    if len(prefix) < PREFIX.size:
        raise CheckpointDamaged(f"it ends after {len(prefix)} bytes")
    magic, length, digest = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise CheckpointDamaged("it does not begin as a checkpoint of this version of p2pdl does")
    if length > file_bytes - PREFIX.size:
        raise CheckpointDamaged(f"its header of {length} bytes does not fit into its {file_bytes} bytes")
    return length, digest


def decode_header(text: bytes, digest: int, data_bytes: int) -> tuple[JsonObject, list[Entry]]:
    """The caller's header and the rows of the arrays, all of them checked against the size of the file.

    Args:
        text: The header.
        digest: What its digest has to be.
        data_bytes: Bytes from the first array to the end of the file.

    Raises:
        CheckpointDamaged: Something is not as it was written.
    """
    if xxhash.xxh3_64_intdigest(text) != digest:
        raise CheckpointDamaged("its header has changed since it was written")
    try:
        fields = json.loads(text)
        header, entries = fields["header"], [_entry(row) for row in fields["arrays"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointDamaged(f"its header is none of p2pdl's ({type(error).__name__}: {error!s:.120})") from None
    if type(header) is not dict:
        raise CheckpointDamaged("its header is none of p2pdl's (no object)")
    offset = 0
    for entry in entries:
        if entry.offset != offset:
            raise CheckpointDamaged(f"its array {entry.name!r} lies at {entry.offset}, not at {offset}")
        offset += entry.nbytes + padding(entry.nbytes)
    if len({entry.name for entry in entries}) < len(entries):
        raise CheckpointDamaged("it holds two arrays of one name")
    if offset != data_bytes:
        raise CheckpointDamaged(f"its arrays take {offset} bytes, and it holds {data_bytes}")
    return header, entries


def _entry(row: Any) -> Entry:
    """One row of the header.

    Raises:
        ValueError, TypeError, KeyError: It is not such a row.
    """
    entry = Entry(row["name"], row["dtype"], tuple(row["shape"]), row["offset"], row["digest"])
    if {type(entry.name), type(entry.dtype), type(entry.digest)} != {str} or entry.dtype not in DTYPES:
        raise ValueError("the row of an array is malformed")
    if any(type(size) is not int or size < 0 for size in (*entry.shape, entry.offset)):
        raise ValueError(f"the array {entry.name!r} has an impossible shape or place")
    return entry
