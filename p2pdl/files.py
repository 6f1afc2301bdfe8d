"""Files that are whole or not there, whoever reads them meanwhile, and whatever cuts their writer off."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

DEFAULT_MODE = 0o666
"""Permissions of a file that is nobody's secret; the user's umask takes from them."""


def create(path: Path, content: str, mode: int = DEFAULT_MODE) -> None:
    """Write a new file, which never has more permissions than these.

    Raises:
        FileExistsError: There is one already.
        OSError: It cannot be written; nothing is left of it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace(path: Path, content: str, mode: int = DEFAULT_MODE) -> None:
    """Write a file in the place of the one that is there, if any.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    with replacing(path) as fresh:
        create(fresh, content, mode)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside a file, for the block to write the new file to, which then takes the place of the old one.

    Yields:
        A path with the same suffix where nothing is.

    Raises:
        OSError: The new file cannot be put there; the old one is as it was.
    """
    fresh = path.with_name(f".{path.stem}.{os.urandom(4).hex()}{path.suffix}")
    try:
        yield fresh
        descriptor = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
