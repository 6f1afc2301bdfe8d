"""Files for the tests of the configuration: a good one, and ways to change it."""

from __future__ import annotations

from pathlib import Path

from p2pdl.config import Configuration, load
from p2pdl.errors import ConfigurationError

GOOD = """\
cluster:
  name: digits
nodes:
  - name: node1
    address: 127.0.0.1:7101
  - name: node2
    address: 127.0.0.1:7102
  - name: node3
    address: 127.0.0.1:7103
"""


def write(folder: Path, text: str) -> Path:
    """Write peers.yaml."""
    file = folder / "peers.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, text: str, *overrides: str) -> Configuration:
    """Load a text as peers.yaml."""
    return load(write(folder, text), overrides)


def report(folder: Path, text: str, *overrides: str) -> str:
    """What the loader says about a wrong text, without the folder's name; empty if it is right."""
    try:
        read(folder, text, *overrides)
    except ConfigurationError as error:
        return str(error).replace(f"{folder}/", "")
    return ""
