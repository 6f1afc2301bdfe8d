"""Writing a checkpoint so that its name stands for all of it or for nothing, whatever dies in between."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from p2pdl.checkpoint.container import DTYPES, encode_head, layout, padding
from p2pdl.errors import CheckpointError
from p2pdl.failpoints import reach
from p2pdl.types import JsonObject

_PIECE = 1 << 20
"""Bytes hashed and written at a time: what has just been read is still in the cache."""


def write(file: io.FileIO | io.BytesIO, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> int:
    """Write a checkpoint's bytes, array by array, with no second copy of them in memory.

    Args:
        file: Empty, seekable; may take less than it is given at a time.
        header: What else to keep, as JSON has it; NaN and infinities are kept too.
        arrays: By name, of any shape and order in memory; nobody changes them meanwhile.

    Returns:
        Bytes written.

    Raises:
        CheckpointError: An array has a dtype that a checkpoint does not hold.
        TypeError: The header holds something that JSON has no form for.
        OSError: As the file raises it.
    """
    entries = layout(arrays)
    # The digests are known only at the end; the room for them is there from the beginning.
    total = file.seek(len(encode_head(header, entries)))
    for number, (entry, array) in enumerate(zip(entries, arrays.values(), strict=True)):
        reach("checkpoint.before-array")
        digest = xxhash.xxh3_64()
        for piece in _pieces(array, DTYPES[entry.dtype]):
            digest.update(piece)
            _write_all(file, piece)
        _write_all(file, memoryview(bytes(padding(entry.nbytes))))
        entries[number] = replace(entry, digest=digest.hexdigest())
        total += entry.nbytes + padding(entry.nbytes)
    reach("checkpoint.before-header")
    file.seek(0)
    _write_all(file, memoryview(encode_head(header, entries)))
    return total


def write_file(path: Path, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> int:
    """Write a checkpoint to a file; one of that name before it is replaced only when the new one is on the disk.

    Args:
        path: Where to.
        header: As in `write`.
        arrays: As in `write`.

    Returns:
        Bytes written.

    Raises:
        CheckpointError: It could not be written. The name stands for what it did before, or for all of the new one.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        try:
            with open(temporary, "wb", buffering=0) as file:
                reach("checkpoint.before-write")
                nbytes = write(file, header, arrays)
                reach("checkpoint.before-sync")
                os.fsync(file.fileno())
            reach("checkpoint.before-rename")
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        reach("checkpoint.before-folder-sync")
        sync_folder(path.parent)
    except OSError as error:
        needed = sum(array.nbytes for array in arrays.values())
        raise CheckpointError(
            f"the checkpoint {path} could not be written: {error.strerror or error}",
            _remedy(error, path.parent, needed),
        ) from None
    return nbytes


def temporary_name(name: str) -> str:
    """The name under which this process writes a file until it is whole."""
    return f".{name}.tmp-{os.getpid()}"


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk.

    Raises:
        OSError: They may not have.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pieces(array: np.ndarray, dtype: np.dtype[Any]) -> Iterator[memoryview]:
    """The bytes of an array in the order of its elements, at most `_PIECE` at a time."""
    elements = _PIECE // dtype.itemsize
    # Both give copies of no more than a piece, where the array is not in order already.
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    for start in range(0, array.size, elements):
        yield np.asarray(flat[start : start + elements]).astype(dtype, copy=False).view(np.uint8).data


def _write_all(file: io.FileIO | io.BytesIO, rest: memoryview) -> None:
    while rest:
        rest = rest[file.write(rest) :]


def _remedy(error: OSError, folder: Path, needed: int) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            with contextlib.suppress(OSError):
                disk = os.statvfs(folder)
                free = disk.f_bavail * disk.f_frsize
                return (
                    f"make room on the disk of {folder}: {needed / 2**20:.0f} MiB are needed beside the checkpoints "
                    f"that are there, {free / 2**20:.0f} MiB are free"
                )
            return f"make room on the disk of {folder}: {needed / 2**20:.0f} MiB are needed"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"let this user write to {folder}, or keep checkpoints in another folder"
        case errno.ENOENT | errno.ENOTDIR:
            return f"make the folder {folder} anew: it was there when the run began"
        case _:
            return f"see whether the disk of {folder} is healthy"
