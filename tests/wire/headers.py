"""A correct header of every message as a plain map, to be damaged by tests."""

from __future__ import annotations

from typing import Any

import msgpack

from p2pdl.protocol.messages import PROTOCOL_VERSION

ROW = {
    "name": "alpha",
    "address": "10.0.0.1:7101",
    "key": "",
    "life": 2**64 - 1,
    "incarnation": 3,
    "state": "suspect",
    "accuser": "gamma",
}

FIELDS: dict[str, dict[str, Any]] = {
    "snapshot": {"spec": "0" * 32, "known_incarnation": "9a", "known_version": 2},
    "range": {
        "incarnation": "9a",
        "version": 3,
        "offset": 0,
        "length": 16,
        "codec": "top-k:0.02",
        "copies": [7],
        "last": True,
    },
    "spec": {},
    "status": {},
    "settings": {},
    "probe": {"target": "beta", "rumours": [ROW]},
    "relay": {"target": "beta", "address": "10.0.0.2:7101", "sequence": 9, "rumours": [ROW]},
    "relayed": {"target": "beta", "sequence": 9, "rumours": [ROW, ROW | {"name": "beta"}]},
    "sync": {"digest": 2**64 - 1, "members": [ROW]},
    "join": {"spec": "0" * 32},
    "initial": {"shard": 1, "digest": 2**64 - 1},
    "push": {
        "incarnation": "9a",
        "clock": 7,
        "base": 3,
        "shard": 1,
        "last": True,
        "partial": False,
        "digest": 2**64 - 1,
        "loss": None,
        "samples": 64,
    },
    "begin": {},
    "leave": {"finished": True},
    "snapshot-reply": {
        "incarnation": "9a",
        "version": 3,
        "step": 7,
        "samples": 448,
        "loss": 0.25,
        "final": False,
        "digest": 2**64 - 1,
        "size": 16,
        "age": 0.5,
        "rumours": [],
    },
    "range-reply": {"version": 3, "offset": 0, "digests": [1, 2], "copies": [3, 4]},
    "spec-reply": {"spec": "0" * 32},
    "status-reply": {
        "incarnation": "9a",
        "state": "training",
        "step": 7,
        "steps": 100,
        "samples": 448,
        "loss": None,
        "age": 0.5,
        "figures": {"density": 0.5, "merges": 3},
        "peers": [{"name": "beta", "state": "live", "failures": 0}],
    },
    "settings-reply": {},
    "probe-reply": {"life": 2**64 - 1, "rumours": [ROW]},
    "sync-reply": {"digest": 0, "members": [ROW]},
    "worker-reply": {
        "incarnation": "9a",
        "clock": 7,
        "version": 3,
        "admitted": True,
        "sends_initial": False,
        "commit_in": 0.5,
        "workers": 4,
    },
    "refusal": {"code": "not-ready", "message": "nothing yet"},
}


WITH_PAYLOAD = {"join", "initial", "push"}
"""Messages with which exactly one frame comes along."""


def header(message: str, /, **changes: Any) -> dict[str, Any]:
    """The header of a message, with some fields changed or added."""
    envelope = {"protocol": PROTOCOL_VERSION, "type": message, "id": 5, "cluster": "lab", "node": "alpha"}
    return envelope | FIELDS[message] | changes


def packed(message: str, /, **changes: Any) -> bytes:
    """The same as bytes."""
    frame: bytes = msgpack.packb(header(message, **changes))
    return frame


def packed_pairs(pairs: list[tuple[Any, Any]]) -> bytes:
    """A msgpack map of these pairs, which may repeat keys."""
    packer = msgpack.Packer()
    return packer.pack_map_header(len(pairs)) + b"".join(packer.pack(part) for pair in pairs for part in pair)
