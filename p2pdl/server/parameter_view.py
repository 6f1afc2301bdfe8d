"""What a parameter server says of itself: its weights as versions to pull, and its status."""

from __future__ import annotations

from collections import Counter
from math import isfinite

from p2pdl.protocol.fields import Scalar
from p2pdl.protocol.messages import StatusReply
from p2pdl.protocol.parameter_server import ParameterServer
from p2pdl.server.answer import Answer
from p2pdl.server.peer_rows import PEER_ROWS
from p2pdl.spec import Snapshot, WeightSpec


class ParameterView:
    """A `NodeView` of a parameter server.

    Args:
        core: The server.
        steps: Steps that each worker is to do; 0 if that is not known.

    Attributes:
        refusals: Requests refused, by code.
    """

    def __init__(self, core: ParameterServer, steps: int) -> None:
        self._core = core
        self._steps = steps
        self._requests = 0
        self._bytes_sent = 0
        self.refusals: Counter[str] = Counter()

    def incarnation(self) -> str:
        """See `NodeView.incarnation`."""
        return self._core.incarnation

    def layout(self) -> WeightSpec | None:
        """See `NodeView.layout`."""
        return self._core.layout()

    def newest_version(self) -> int | None:
        """See `VersionSource.newest_version`."""
        return self._core.newest_version()

    def load(self) -> Snapshot | None:
        """See `VersionSource.load`."""
        return self._core.load()

    def count(self, answer: Answer) -> None:
        """Count what has been answered."""
        self._requests += 1
        self._bytes_sent += answer.nbytes
        if answer.refused and answer.refused != "no-lease":
            self.refusals[answer.refused] += 1

    def figures(self) -> dict[str, Scalar]:
        """What status and summary say, by name."""
        return {
            **self._core.figures(),
            "bytes_received": self._core.counters["ingress_bytes"],
            "bytes_sent": self._bytes_sent,
            "requests": self._requests,
            **{f"refused_{code}": count for code, count in sorted(self.refusals.items()) if count},
        }

    def status(self, now: float) -> StatusReply:
        """How the server is, with a row for each worker."""
        core = self._core
        state = "finished" if core.is_done else "training" if core.version else "ready"
        rows: tuple[dict[str, Scalar], ...] = tuple(
            {
                "name": name,
                "state": "live",
                "clock": worker.clock,
                "heard": max(0.0, now - worker.heard),
            }
            for name, worker in sorted(core.workers.items())
        )
        return StatusReply(
            incarnation=core.incarnation,
            state=state,
            step=core.version,
            steps=self._steps,
            samples=core.samples,
            loss=core.loss if isfinite(core.loss) else None,
            age=0.0,
            figures=self.figures(),
            peers=rows[:PEER_ROWS],
        )
