"""The words of the key files: what a name and a key look like, and which key is which."""

from __future__ import annotations

import re

SECRET, PUBLIC, OPERATOR = "secret", "public", "operator"
"""They stand beside the keys, so that files which have been swapped are noticed."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
KEY = re.compile(r"[0-9a-f]{64}")
