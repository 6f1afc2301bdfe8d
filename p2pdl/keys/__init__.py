"""Key files: a secret for each node, and the list of the public keys that may take part."""

from __future__ import annotations

from p2pdl.keys.allow_list import ALLOWED_FILE, AllowedKey, AllowList, allow, read_allowed
from p2pdl.keys.secret_file import read_secret, secret_path, write_secret

__all__ = [
    "ALLOWED_FILE",
    "AllowList",
    "AllowedKey",
    "allow",
    "read_allowed",
    "read_secret",
    "secret_path",
    "write_secret",
]
