"""Reading a checkpoint back: every byte is checked, and no memory is taken that the file has not the bytes for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import xxhash

from p2pdl.checkpoint.container import DTYPES, PREFIX, Entry, decode_header, header_length, padding
from p2pdl.errors import CheckpointDamaged, CheckpointError
from p2pdl.types import JsonObject

_PIECE = 1 << 20
"""Bytes read and hashed at a time: what has just been read is still in the cache."""


def read(file: io.FileIO | io.BytesIO, nbytes: int) -> tuple[JsonObject, dict[str, np.ndarray]]:
    """Read a checkpoint's bytes.

    Args:
        file: At its beginning.
        nbytes: Its size.

    Returns:
        The header and the arrays, in the order in which they were written.

    Raises:
        CheckpointDamaged: Any byte is not as it was written, or missing, or too many.
        OSError: As the file raises it.
    """
    length, digest = header_length(_read(file, min(PREFIX.size, nbytes)), nbytes)
    start = PREFIX.size + length
    data_bytes = nbytes - start - padding(start)
    header, entries = decode_header(_read(file, length), digest, data_bytes)
    _skip_padding(file, start)
    arrays = {}
    for entry in entries:
        arrays[entry.name] = _read_array(file, entry)
        _skip_padding(file, entry.nbytes)
    return header, arrays


def read_file(path: Path) -> tuple[JsonObject, dict[str, np.ndarray]]:
    """Read a checkpoint from its file.

    Args:
        path: The file.

    Returns:
        As `read`.

    Raises:
        CheckpointDamaged: The file is not what was written.
        CheckpointError: This user may not read it.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return read(file, os.fstat(file.fileno()).st_size)
    except PermissionError as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read: {error.strerror}",
            "let this user read it, or move it away to go on without it",
        ) from None
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or error}"
    except CheckpointDamaged as error:
        reason = error.message
    raise CheckpointDamaged(
        f"the checkpoint {path} is damaged: {reason}", "use an older one, or move it away to go on without it"
    )


def _read(file: io.FileIO | io.BytesIO, nbytes: int) -> bytes:
    content = bytearray(nbytes)
    _read_into(file, memoryview(content))
    return bytes(content)


def _read_into(file: io.FileIO | io.BytesIO, target: memoryview) -> None:
    while target:
        count = file.readinto(target)
        if not count:
            raise CheckpointDamaged("it ended while it was read")
        target = target[count:]


def _skip_padding(file: io.FileIO | io.BytesIO, nbytes: int) -> None:
    if any(_read(file, padding(nbytes))):
        raise CheckpointDamaged("there is something between its arrays")


def _read_array(file: io.FileIO | io.BytesIO, entry: Entry) -> np.ndarray:
    content = np.empty(entry.nbytes, np.uint8)
    digest = xxhash.xxh3_64()
    for start in range(0, entry.nbytes, _PIECE):
        piece = content[start : start + _PIECE].data
        _read_into(file, piece)
        digest.update(piece)
    if digest.hexdigest() != entry.digest:
        raise CheckpointDamaged(f"its array {entry.name!r} has changed since it was written")
    try:
        return content.view(DTYPES[entry.dtype]).reshape(entry.shape)
    except (ValueError, OverflowError) as error:
        raise CheckpointDamaged(f"its array {entry.name!r} has a shape that numpy does not have: {error}") from None
