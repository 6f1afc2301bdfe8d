"""What the server knows of its node, read out of the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from math import isfinite
from typing import Any

from p2pdl.protocol.messages import STATES, StatusReply
from p2pdl.server.peer_rows import PEER_ROWS, Acquaintance, fitting, packed_limit, peer_rows
from p2pdl.spec import Snapshot, WeightSpec
from p2pdl.store.layout import STATUS, Word
from p2pdl.store.reader import StoreReader
from p2pdl.types import JsonObject, NodeId
from p2pdl.wire import HEADER_LIMIT

FIGURES = 64
"""Figures in one status, at most."""

REST_BYTES = 2048
"""Of a status' header beside its figures and its peers, at most: two names, and the fields of fixed size."""


class StoreView:
    """A node's weights and status as its server sees them; a `NodeView`.

    Args:
        store: The store that the node's trainer writes.
        node: This node's name, under which it is no peer of its own.

    Attributes:
        refusals: Requests refused, by code.
        known: Whom the membership knows, by name; empty where there is none.
        member_counters: What the membership has counted.
    """

    def __init__(self, store: StoreReader, node: NodeId = "") -> None:
        self._store = store
        self._node = node
        self._spec: WeightSpec | None = None
        self.refusals: Counter[str] = Counter()
        self.known: Mapping[NodeId, Acquaintance] = {}
        self.member_counters: Mapping[str, int] = {}

    def incarnation(self) -> str:
        """See `NodeView.incarnation`."""
        return self._store.incarnation

    def layout(self) -> WeightSpec | None:
        """See `NodeView.layout`."""
        if self._spec is None and self._store.is_ready:
            self._spec = WeightSpec.parse(self._store.spec_rows().decode())
        return self._spec

    def newest_version(self) -> int | None:
        """See `VersionSource.newest_version`."""
        return self._store.newest_version()

    def load(self) -> Snapshot | None:
        """See `VersionSource.load`."""
        return self._store.load()

    def status(self, now: float) -> StatusReply:
        """What the trainer last wrote, whom the membership knows, and the server's own counters."""
        block = self._store.status()
        written: JsonObject = json.loads(block) if block else {}
        figures = dict(written.get("figures", {}))
        for word in (Word.BYTES_SENT, Word.REQUESTS, Word.REFUSALS, Word.SERVER_STARTS):
            figures[word.name.lower()] = self._store.counter(word)
        figures.update({f"refused_{code}": count for code, count in self.refusals.items()})
        figures.update({f"members_{name}": count for name, count in sorted(self.member_counters.items())})
        figures = dict(islice(figures.items(), FIGURES))
        rows = peer_rows(written.get("peers", ()), self.known, self._node, now)
        return StatusReply(
            incarnation=self._store.incarnation,
            state=written.get("state", STATES[0]),
            step=written.get("step", 0),
            steps=written.get("steps", 0),
            samples=written.get("samples", 0),
            loss=written.get("loss"),
            age=max(0.0, now - written.get("written", now)),
            figures=figures,
            peers=fitting(rows, HEADER_LIMIT - REST_BYTES - packed_limit(figures)),
        )


def status_block(
    *,
    now: float,
    state: str,
    step: int = 0,
    steps: int = 0,
    samples: int = 0,
    loss: float | None = None,
    figures: dict[str, Any] | None = None,
    peers: list[dict[str, Any]] | None = None,
) -> bytes:
    """The status block as `StoreView.status` reads it.

    Args:
        now: Seconds of the machine's monotonic clock.
        state: One of `STATES`.
        step: Optimizer steps done.
        steps: Optimizer steps to do.
        samples: Training samples seen.
        loss: Smoothed training loss, or None.
        figures: Further scalars.
        peers: One small map for each peer; those beyond `PEER_ROWS`, and those that do not fit, are left out.

    Numbers that are not finite are written as None, since no peer would accept them.
    """
    block: JsonObject = dict(
        written=now,
        state=state,
        step=step,
        steps=steps,
        samples=samples,
        loss=_finite(loss),
        figures={name: _finite(figure) for name, figure in (figures or {}).items()},
        peers=[{name: _finite(value) for name, value in peer.items()} for peer in (peers or [])[:PEER_ROWS]],
    )
    encoded = json.dumps(block).encode()
    while len(encoded) > STATUS.limit and block["peers"]:
        block["peers"] = block["peers"][: len(block["peers"]) * 3 // 4]
        encoded = json.dumps(block).encode()
    return encoded


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
