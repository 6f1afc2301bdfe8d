"""`allowed`: who may take part, one line `NAME public KEY` each, and `operator` behind it for who may only look."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pdl.errors import StartupError
from p2pdl.files import replace
from p2pdl.keys.files import make_folder, unreadable, unwritable
from p2pdl.keys.words import KEY, NAME, OPERATOR, PUBLIC, SECRET
from p2pdl.types import NodeId

ALLOWED_FILE = "allowed"

HEADER = """\
# Who may take part in this cluster: one line each, NAME public KEY, with `operator` behind the key of somebody who may
# look but not take part. Running nodes read this file again when it changes. Nothing here is secret, but whoever can
# write here can let others in.
"""

Stamp = tuple[int, int, int]
"""Inode, size, and the time in nanoseconds of the last change of a file, also of its permissions."""


@dataclass(frozen=True, slots=True)
class AllowedKey:
    """One line of the list.

    Attributes:
        name: Whose key it is.
        public: The public key, 64 hexadecimal digits.
        operator: True if its holder may ask how the nodes are, but not take part.
    """

    name: NodeId
    public: str
    operator: bool = False

    def __str__(self) -> str:
        return f"{self.name} {PUBLIC} {self.public}" + (f" {OPERATOR}" if self.operator else "")


class AllowList:
    """The keys that may take part, read again when their file changes.

    Args:
        folder: The folder of the keys.

    Raises:
        StartupError: The list is missing, cannot be read, or has a line that is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp = self._unusable = _stamp(folder / ALLOWED_FILE)
        self._entries = read_allowed(folder)
        self._node_keys = self._keys_of_nodes()

    @property
    def entries(self) -> Mapping[NodeId, AllowedKey]:
        """Every line by its name; another object after a change."""
        return self._entries

    @property
    def node_keys(self) -> Mapping[NodeId, str]:
        """The public key of every node by its name, without operators; one object for good, which changes."""
        return self._node_keys

    def reload(self) -> bool:
        """Read the file again if it has changed since.

        Returns:
            True if it had.

        Raises:
            StartupError: It has changed to something that cannot be used, which is said once; the list stays as it was.
        """
        stamp = _stamp(self._folder / ALLOWED_FILE)
        if stamp == self._stamp:
            return False
        try:
            self._entries = read_allowed(self._folder)
        except StartupError:
            # Tried again all the same: a process whose descriptors strangers hold cannot open the file for a while.
            if stamp == self._unusable:
                return False
            self._unusable = stamp
            raise
        self._stamp = self._unusable = stamp
        current = self._keys_of_nodes()
        self._node_keys.update(current)
        for name in self._node_keys.keys() - current.keys():
            del self._node_keys[name]
        return True

    def _keys_of_nodes(self) -> dict[NodeId, str]:
        return {entry.name: entry.public for entry in self._entries.values() if not entry.operator}


def read_allowed(folder: Path) -> dict[NodeId, AllowedKey]:
    """The list of the keys that may take part, by name.

    Raises:
        StartupError: It is missing, cannot be read, everybody can write it, or a line is none.
    """
    path = folder / ALLOWED_FILE
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise StartupError(
            f"there is no list of the keys that may take part: {path} does not exist",
            "make keys with `p2pdl keygen`, or copy the list from the machine where that was done",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    if mode & stat.S_IWOTH:
        raise StartupError(
            f"everybody on this machine can write {path}, and so let others in", f"chmod o-w {shlex.quote(str(path))}"
        )
    entries = _parsed(text, path)
    if not entries:
        raise StartupError(f"{path} lists no key at all", "make keys with `p2pdl keygen`")
    return entries


def allow(folder: Path, added: Iterable[AllowedKey]) -> Path:
    """Put keys on the list, each in the place of an earlier one of its name; other lines stay as they are.

    Args:
        folder: The folder of the keys, made if it is not there.
        added: The new lines.

    Raises:
        StartupError: The list that is there cannot be used, or it cannot be written.
    """
    path = folder / ALLOWED_FILE
    make_folder(folder)
    wanted = {entry.name: entry for entry in added}
    try:
        exists = path.exists()
        text = path.read_text("utf-8") if exists else HEADER
        mode = stat.S_IMODE(path.stat().st_mode) if exists else 0o644
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    _parsed(text, path)
    lines = [str(wanted.pop(owner)) if (owner := _owner(line)) in wanted else line for line in text.splitlines()]
    content = "".join(f"{line}\n" for line in [*lines, *map(str, wanted.values())])
    _parsed(content, path)
    try:
        replace(path, content, mode)
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def _parsed(text: str, path: Path) -> dict[NodeId, AllowedKey]:
    entries: dict[NodeId, AllowedKey] = {}
    owners: dict[str, NodeId] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line)
        if not words:
            continue
        entry = _entry(words, f"{path}:{number}")
        if entry.name in entries:
            raise StartupError(f"{path}:{number}: {entry.name} has a key already", "keep one of the two lines")
        if entry.public in owners:
            raise StartupError(
                f"{path}:{number}: the key of {entry.name} is that of {owners[entry.public]}",
                "give each a key of its own: the key says who it is",
            )
        entries[entry.name] = entry
        owners[entry.public] = entry.name
    return entries


def _entry(words: list[str], place: str) -> AllowedKey:
    match words:
        case [_, word, *_] if word == SECRET:
            raise StartupError(
                f"{place}: a secret key among the public ones",
                "remove the line, and make a new pair for that name with `p2pdl keygen --force`: this one is known now",
            )
        case [name, word, key, *marks] if (
            word == PUBLIC and NAME.fullmatch(name) and KEY.fullmatch(key) and marks in ([], [OPERATOR])
        ):
            return AllowedKey(name, key, bool(marks))
    raise StartupError(
        f"{place}: the line is not `NAME {PUBLIC} KEY`, with 64 hexadecimal digits, and perhaps `{OPERATOR}` behind",
        "mend the line or remove it",
    )


def _words(line: str) -> list[str]:
    return line.partition("#")[0].split()


def _owner(line: str) -> str:
    return next(iter(_words(line)), "")


def _stamp(path: Path) -> Stamp | None:
    """What changes with the file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns
