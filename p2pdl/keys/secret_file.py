"""`NAME.secret`: the one line `NAME secret KEY`, which nobody but its owner can read."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from p2pdl.errors import StartupError
from p2pdl.files import create, replace
from p2pdl.keys.files import SECRET_SUFFIX, make_folder, unreadable, unwritable
from p2pdl.keys.words import KEY, NAME, PUBLIC, SECRET
from p2pdl.types import NodeId

OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO

LONGEST = 4096
"""Bytes of a file that is looked at; a secret has less than 150."""


def secret_path(folder: Path, name: NodeId) -> Path:
    """Where the secret of a node or operator lies.

    Raises:
        StartupError: The name cannot be one.
    """
    if not NAME.fullmatch(name):
        raise StartupError(
            f"{name!r} is no name for a key",
            "write at most 63 lower-case letters, digits, - and _, starting with a letter or digit",
        )
    return folder / f"{name}{SECRET_SUFFIX}"


def read_secret(folder: Path, name: NodeId) -> str:
    """The secret key of a node or operator, 64 hexadecimal digits.

    Raises:
        StartupError: It is missing, others can read it, or the file holds something else.
    """
    path = secret_path(folder, name)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & OPEN_TO_OTHERS:
                raise StartupError(
                    f"others can read the secret key {path} (mode {stat.S_IMODE(mode):04o})",
                    f"chmod 600 {shlex.quote(str(path))}",
                )
            text = file.read(LONGEST).decode("ascii", "replace")
    except FileNotFoundError:
        raise StartupError(
            f"there is no secret key for {name} on this machine: {path} does not exist",
            f"make one here with `p2pdl keygen --name {name}`, or copy it from the machine where that was done",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    return _secret_in(text if len(text) < LONGEST else "", path, name)


def write_secret(folder: Path, name: NodeId, secret: str, *, force: bool = False) -> Path:
    """Write a secret that only the user can read, from its first moment on.

    Args:
        folder: The folder of the keys, made if it is not there.
        name: Whose secret it is.
        secret: 64 hexadecimal digits.
        force: True to replace one that is there.

    Raises:
        StartupError: There is one already, or it cannot be written.
    """
    path = secret_path(folder, name)
    make_folder(folder)
    try:
        (replace if force else create)(path, f"{name} {SECRET} {secret}\n", 0o600)
    except FileExistsError:
        raise StartupError(
            f"{path} is there already and was left as it is", "--force replaces it, and what it opens stays shut to it"
        ) from None
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def _secret_in(text: str, path: Path, name: NodeId) -> str:
    # What the file holds may be a secret, so no message shows it.
    match [line.split() for line in text.splitlines() if line.strip()]:
        case [[_, word, *_], *_] if word == PUBLIC:
            raise StartupError(
                f"{path} holds a public key in the place of a secret one",
                f"put the secret of {name} there; public keys belong into the list of those that may take part",
            )
        case [[owner, word, key]] if word == SECRET and NAME.fullmatch(owner) and KEY.fullmatch(key):
            if owner == name:
                return key
            raise StartupError(
                f"{path} holds the secret of {owner}, not that of {name}",
                "give each file the name of the node whose secret it holds",
            )
    raise StartupError(
        f"{path} is no secret key: it must be the one line `{name} {SECRET} KEY`, with 64 hexadecimal digits",
        f"copy it again, or make a new one with `p2pdl keygen --name {name} --force`",
    )
