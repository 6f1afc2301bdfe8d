"""The folder of keys, and what is said of a file in it that cannot be used."""

from __future__ import annotations

import contextlib
from pathlib import Path

from p2pdl.errors import StartupError
from p2pdl.files import create

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


def unreadable(path: Path, error: Exception) -> StartupError:
    """What to say of a file that cannot be read."""
    reason = getattr(error, "strerror", None) or "it is not text"
    return StartupError(f"{path} cannot be read: {reason}", "check its owner and its permissions")


def unwritable(path: Path, error: OSError) -> StartupError:
    """What to say of a file or folder that cannot be written."""
    return StartupError(
        f"{path} cannot be written: {error.strerror}", "choose a folder that is yours, with `security.keys` in the file"
    )
