"""Files of the folder of keys: made with their permissions, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from p2pdl.errors import StartupError

SECRET_SUFFIX = ".secret"


def make_folder(folder: Path) -> None:
    """Make the folder of the keys, with a note that keeps secrets out of a repository, unless it is there.

    Raises:
        StartupError: It cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            create(folder / ".gitignore", f"*{SECRET_SUFFIX}\n", 0o644)
    except OSError as error:
        raise unwritable(folder, error) from None


def create(path: Path, content: str, mode: int) -> None:
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


def replace(path: Path, content: str, mode: int) -> None:
    """Write a file in the place of the one that is there, if any: readers see the one or the other.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    create(temporary, content, mode)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unreadable(path: Path, error: Exception) -> StartupError:
    """What to say of a file that cannot be read."""
    reason = getattr(error, "strerror", None) or "it is not text"
    return StartupError(f"{path} cannot be read: {reason}", "check its owner and its permissions")


def unwritable(path: Path, error: OSError) -> StartupError:
    """What to say of a file or folder that cannot be written."""
    return StartupError(
        f"{path} cannot be written: {error.strerror}", "choose a folder that is yours, with `security.keys` in the file"
    )
