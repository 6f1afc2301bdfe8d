"""Frames: messages to bytes and back, with limits on everything that a peer can choose."""

from p2pdl.wire.header import HEADER_LIMIT, decode, encode

FRAME_LIMIT = 1 << 20
"""Bytes of a payload frame, at most: one shard."""

__all__ = ["FRAME_LIMIT", "HEADER_LIMIT", "decode", "encode"]
