"""Keys on ZeroMQ's side: pairs, who a node is by its key, and sockets that encrypt with CURVE (ZeroMQ RFC 26)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from p2pdl.errors import StartupError
from p2pdl.keys import ALLOWED_FILE, AllowList, read_secret, secret_path
from p2pdl.types import NodeId

DOMAIN = b"p2pdl"
"""Of ZeroMQ's questions about clients; that it is enforced makes a server without an answer turn everybody away."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, and the key that proves it.

    Attributes:
        name: The name for which the key is listed.
        secret: The secret key, 64 hexadecimal digits; never part of a message or a `repr`.
        public: The public key that belongs to it.
    """

    name: NodeId
    secret: str = field(repr=False)
    public: str


def make_keypair() -> tuple[str, str]:
    """A new secret key and the public key that belongs to it, 64 hexadecimal digits each."""
    public, secret = zmq.curve_keypair()
    return z85.decode(secret).hex(), z85.decode(public).hex()


def public_of(secret: str) -> str:
    """The public key that belongs to a secret one.

    Args:
        secret: 64 hexadecimal digits.
    """
    return z85.decode(zmq.curve_public(z85.encode(bytes.fromhex(secret)))).hex()


def load_identity(folder: Path, name: NodeId, allowed: AllowList) -> Identity:
    """Who a node or operator is, out of the folder of the keys.

    Args:
        folder: The folder of the keys.
        name: Whose secret to read.
        allowed: The list in that folder.

    Raises:
        StartupError: The secret cannot be used, or is not the one whose public key is listed for that name.
    """
    secret = read_secret(folder, name)
    public = public_of(secret)
    listed = allowed.entries.get(name)
    if listed is None:
        raise StartupError(
            f"{folder / ALLOWED_FILE} lists no key for {name}",
            f"`p2pdl keygen --name {name}` adds the key of {secret_path(folder, name)}; then copy the list to every "
            "machine",
        )
    if listed.public != public:
        raise StartupError(
            f"the secret in {secret_path(folder, name)} does not belong to the public key that "
            f"{folder / ALLOWED_FILE} lists for {name}",
            f"copy both files again from one machine, or make a new pair with `p2pdl keygen --name {name} --force` and "
            "copy the list to every machine",
        )
    return Identity(name, secret, public)


def protect_server(socket: zmq.Socket[bytes], identity: Identity) -> None:
    """Let a socket take encrypted connections only, and only those that the authenticator lets in; before it binds."""
    socket.curve_server = True
    socket.curve_secretkey = bytes.fromhex(identity.secret)
    socket.zap_domain = DOMAIN
    # Without it, a server whose authenticator is gone would serve anybody who knows its public key.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def protect_client(socket: zmq.Socket[bytes], identity: Identity, server_key: str) -> None:
    """Let a socket encrypt, and talk only to the owner of a key; before it connects.

    Args:
        socket: The socket.
        identity: Who connects.
        server_key: The public key that the server must have, 64 hexadecimal digits.
    """
    socket.curve_publickey = bytes.fromhex(identity.public)
    socket.curve_secretkey = bytes.fromhex(identity.secret)
    socket.curve_serverkey = bytes.fromhex(server_key)
