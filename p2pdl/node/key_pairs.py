"""Makes the keys of a cluster: secrets that are not there yet, and the list of all public keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pdl.config import Configuration
from p2pdl.errors import StartupError
from p2pdl.keys import ALLOWED_FILE, AllowedKey, AllowList, allow, read_allowed, read_secret, secret_path, write_secret
from p2pdl.transport.curve import load_identity, make_keypair, public_of
from p2pdl.types import NodeId

STATES = {
    "made": "a new pair",
    "listed": "the secret was here, and its public key is on the list now",
    "kept": "the secret was here and on the list already",
    "elsewhere": "on the list already, with its secret on another machine",
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One key, and what has been done about it.

    Attributes:
        name: The node or operator whose key it is.
        operator: True for an operator's.
        public: The public key.
        secret: The file of the secret key; it is not there if the state is `elsewhere`.
        state: A key of `STATES`.
    """

    name: NodeId
    operator: bool
    public: str
    secret: Path
    state: str


def make_pairs(
    configuration: Configuration, names: Sequence[NodeId] = (), operators: Sequence[str] = (), *, force: bool = False
) -> list[KeyPair]:
    """Make keys, and put them on the list.

    Args:
        configuration: The cluster.
        names: The nodes to make keys for; all of the file if neither these nor operators are given.
        operators: Others that may look but not take part.
        force: True to replace keys that are there.

    Returns:
        One pair for each, in the order of the file, operators last.

    Raises:
        NodeChoiceError: A name is that of no node.
        StartupError: A key cannot be made, or what is there cannot be used.
    """
    folder = configuration.resolve(configuration.security.keys)
    for name in names:
        configuration.node(name)
    for name in set(operators) & set(configuration.names):
        raise StartupError(
            f"{name} is a node of {configuration.file}, and cannot be an operator too", "choose another name for it"
        )
    listed = read_allowed(folder) if (folder / ALLOWED_FILE).exists() else {}
    chosen = [name for name in configuration.names if name in names or not (names or operators)]
    owners = [*((name, False) for name in chosen), *((name, True) for name in dict.fromkeys(operators))]
    if not force:
        for name in {*names, *operators} & listed.keys():
            _refuse_lost(folder, name)
    pairs = [_pair(folder, name, operator, listed.get(name), force) for name, operator in owners]
    changed = [AllowedKey(pair.name, pair.public, pair.operator) for pair in pairs if pair.state in ("made", "listed")]
    if changed:
        allow(folder, changed)
    return pairs


def _refuse_lost(folder: Path, name: NodeId) -> None:
    path = secret_path(folder, name)
    if not path.exists():
        raise StartupError(
            f"{name} is on the list already, and its secret is not here ({path} does not exist)",
            "copy it from the machine where it was made; or --force makes a new pair, and then the list goes to every "
            "machine",
        )


def _pair(folder: Path, name: NodeId, operator: bool, listed: AllowedKey | None, force: bool) -> KeyPair:
    path = secret_path(folder, name)
    if force or (listed is None and not path.exists()):
        secret, public = make_keypair()
        write_secret(folder, name, secret, force=force)
        return KeyPair(name, operator, public, path, "made")
    if listed is None:
        return KeyPair(name, operator, public_of(read_secret(folder, name)), path, "listed")
    if listed.operator != operator:
        raise StartupError(
            f"{folder / ALLOWED_FILE} lists {name} as {'an operator' if listed.operator else 'a node'}",
            "choose another name, or change that line",
        )
    if not path.exists():
        return KeyPair(name, operator, listed.public, path, "elsewhere")
    return KeyPair(name, operator, load_identity(folder, name, AllowList(folder)).public, path, "kept")
