"""The configuration: a strict YAML file and `--set` flags, checked whole before anything starts."""

from __future__ import annotations

from p2pdl.config.address import Address
from p2pdl.config.model import Configuration
from p2pdl.config.reading import load

__all__ = ["Address", "Configuration", "load"]
