"""Frames: messages to bytes and back, with limits on everything that a peer can choose."""

from p2pdl.wire.header import HEADER_LIMIT, decode, encode

FRAME_LIMIT = (1 << 20) + 4096
"""Bytes of a payload frame, at most: one shard, and what a codec adds to it."""

__all__ = ["FRAME_LIMIT", "HEADER_LIMIT", "decode", "encode"]
