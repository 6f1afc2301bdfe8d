"""How weights travel: codecs that turn a piece of the flat vector into bytes and back, and their registry."""

from __future__ import annotations

from collections.abc import Callable

from p2pdl.codec.bfloat16 import Bfloat16
from p2pdl.codec.contract import Bytes, Codec, Payload
from p2pdl.codec.deflated import Deflated
from p2pdl.codec.finite import is_finite
from p2pdl.codec.float16 import Float16
from p2pdl.codec.float32 import Float32
from p2pdl.codec.int8 import Int8

__all__ = ["CODECS", "Bytes", "Codec", "Payload", "create", "is_finite", "is_stateless"]

CODECS: dict[str, Callable[[], Codec]] = {
    "float32": Float32,
    "bfloat16": Bfloat16,
    "float16": Float16,
    "int8": Int8,
    "float32+deflate": lambda: Deflated(Float32()),
    "bfloat16+deflate": lambda: Deflated(Bfloat16()),
    "float16+deflate": lambda: Deflated(Float16()),
    "int8+deflate": lambda: Deflated(Int8()),
}
"""Codecs without a state, by the name that the wire and a configuration use."""


def create(name: str) -> Codec:
    """Build a codec.

    Args:
        name: A key of `CODECS`.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in CODECS:
        raise ValueError(f"there is no codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name]()


def is_stateless(name: str) -> bool:
    """True if the name is a codec of this registry, and not a delta between versions."""
    return name in CODECS
