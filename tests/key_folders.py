"""Folders of keys for tests."""

from __future__ import annotations

from pathlib import Path

from p2pdl.keys import AllowedKey, AllowList, allow, write_secret
from p2pdl.transport.curve import Identity, load_identity, make_keypair
from p2pdl.transport.zeromq import ZmqClient


def make_keys(folder: Path, *nodes: str, operators: tuple[str, ...] = ()) -> Path:
    """A folder with a secret for each of these nodes and operators, all of them on the list."""
    for name in (*nodes, *operators):
        secret, public = make_keypair()
        write_secret(folder, name, secret)
        allow(folder, [AllowedKey(name, public, name in operators)])
    return folder


def identity_of(folder: Path, name: str) -> Identity:
    """Who a node of the folder is."""
    return load_identity(folder, name, AllowList(folder))


def stranger(name: str = "stranger") -> Identity:
    """Somebody with a key of their own, which is on no list."""
    secret, public = make_keypair()
    return Identity(name, secret, public)


def client_of(identity: Identity, server_key: str) -> ZmqClient:
    """A client that takes every server for the owner of one key."""
    return ZmqClient(identity=identity, server_key=lambda address: server_key)
