"""Makes the keys of a cluster: secrets that are not there yet, and the list of all public keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    for name in operators:
        if name in configuration.names:
            raise StartupError(
                f"{name} is a node of {configuration.file}, and cannot be an operator too",
                "choose another name for the operator",
            )
    listed = read_allowed(folder) if (folder / ALLOWED_FILE).exists() else {}
    chosen = [name for name in configuration.names if name in names or not (names or operators)]
    owners = {**dict.fromkeys(chosen, False), **dict.fromkeys(operators, True)}
    # Everything is looked at before anything is made, so that a mistake leaves all as it was.
    states = {name: _state(folder, name, operator, listed.get(name), force) for name, operator in owners.items()}
    for name, state in states.items():
        if state == "elsewhere" and name in (*names, *operators):
            raise StartupError(
                f"{name} is on the list already, and {secret_path(folder, name)} is not here",
                "copy it from the machine where it was made; or --force makes a new pair, and then the list goes to "
                "every machine",
            )
    pairs = [
        KeyPair(name, operator, _public(folder, name, states[name], listed, force), secret_path(folder, name), state)
        for (name, operator), state in zip(owners.items(), states.values(), strict=True)
    ]
    changed = [AllowedKey(pair.name, pair.public, pair.operator) for pair in pairs if pair.state in ("made", "listed")]
    if changed:
        allow(folder, changed)
    return pairs


def _state(folder: Path, name: NodeId, operator: bool, listed: AllowedKey | None, force: bool) -> str:
    """What is to be done about a key: one of `STATES`."""
    exists = secret_path(folder, name).exists()
    if listed is not None and listed.operator != operator:
        raise StartupError(
            f"{folder / ALLOWED_FILE} lists {name} as {'an operator' if listed.operator else 'a node'}",
            "choose another name, or remove that line",
        )
    if force or not (exists or listed):
        return "made"
    if not exists:
        return "elsewhere"
    if listed is None:
        read_secret(folder, name)
        return "listed"
    load_identity(folder, name, AllowList(folder))
    return "kept"


def _public(folder: Path, name: NodeId, state: str, listed: Mapping[NodeId, AllowedKey], force: bool) -> str:
    """The public key, after what is to be done has been done but for the list."""
    if state == "made":
        secret, public = make_keypair()
        write_secret(folder, name, secret, force=force)
        return public
    return public_of(read_secret(folder, name)) if state == "listed" else listed[name].public
