"""Whom to ask next: the topology over the peers that answer, and a growing, finite pause for those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from p2pdl.errors import PeerError
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.pull import VersionKey
from p2pdl.protocol.quarantine import STRIKE_CODES, Conduct
from p2pdl.topology.contract import Topology
from p2pdl.types import NodeId

FIRST_PAUSE = 0.5
"""Seconds that a peer is left alone after its first failure; doubled with each further one."""

LONGEST_PAUSE = 30.0
"""Seconds: however often a peer failed, it is asked again after this."""

WASTE = 8.0
"""A peer that has cost so many seconds for nothing is left alone for so many times as long: peers that are slow or cut
off take no large share of the time in which a node pulls."""

DOUBLINGS = 16
"""More than enough to reach `LONGEST_PAUSE`; a power that grew for ever would overflow after a night of failures."""

SHORTEST_PAUSE = 0.01
"""Seconds that a peer without a new version is left alone at least."""

TRANSIENT_PAUSES = {"busy": 0.05, "version-gone": 0.5, "not-trained-yet": 0.5, "not-ready": 0.5, "newcomer": 2.0}
"""Longest pauses in seconds after refusals of a healthy peer, by code: they do not grow.

A peer that serves somebody else is asked again soon, after about the time of a pull in a fast network; one that has
only just begun not quite so soon.
"""


@dataclass(slots=True)
class PeerRecord:
    """What this node has seen of one peer.

    Attributes:
        state: `unknown`, `live`, `failing` or `quarantined`.
        failures: Failures since the last success.
        pause_until: Monotonic seconds before which the peer is not asked.
        last_error: The last failure's text; empty if there was none since the last success.
        last_code: Its code.
        last_error_at: Monotonic seconds of the last failure, whatever came after it; None if there was none.
        pulls: Completed pulls.
        step: The peer's step as last heard.
        known: Incarnation and version of the weights last merged.
        conduct: What was refused of it.
    """

    state: str = "unknown"
    failures: int = 0
    pause_until: float = float("-inf")
    last_error: str = ""
    last_code: str = ""
    last_error_at: float | None = None
    pulls: int = 0
    step: int = 0
    known: VersionKey | None = None
    conduct: Conduct = field(default_factory=Conduct)


class Neighbours:
    """Chooses peers and remembers how they behaved.

    Args:
        self_id: This node.
        peers: The other nodes.
        topology: Who may be asked.
        rng: Source of the topology's chance and of the pauses' jitter.

    Attributes:
        records: What was seen of each peer.
        merged_last: Whose weights were merged last; None before the first.
    """

    def __init__(self, self_id: NodeId, peers: Iterable[NodeId], topology: Topology, rng: np.random.Generator) -> None:
        self._self_id = self_id
        self._topology = topology
        self._rng = rng
        self._round = 0
        self.records: dict[NodeId, PeerRecord] = {peer: PeerRecord() for peer in peers}
        self.merged_last: NodeId | None = None
        self._states: Mapping[NodeId, str] = dict.fromkeys(self.records, "unknown")

    def follow(self, states: Mapping[NodeId, str]) -> None:
        """Take over how the membership sees the other nodes.

        Args:
            states: `alive`, `suspect`, `dead`, `left` or `unknown` by name; new names are new peers.
        """
        for peer, state in states.items():
            record = self.records.setdefault(peer, PeerRecord())
            if state == "alive" and self._states.get(peer) in ("dead", "left") and record.state == "failing":
                # What failed was its former life, or the way to it.
                record.failures, record.pause_until = 0, float("-inf")
        self._states = dict(states)

    def choose(self, now: float) -> tuple[NodeId, ...]:
        """The peers to pull from in this exchange; empty while all of them are paused."""
        return self._choose([peer for peer in self._reachable() if self.records[peer].pause_until <= now])

    def choose_last(self) -> tuple[NodeId, ...]:
        """The peers of the exchange that a run ends on: live ones, whether they have anything new or not."""
        return self._choose([peer for peer in self._reachable() if self.records[peer].state == "live"])

    def _reachable(self) -> list[NodeId]:
        """The members that are alive; where there is none the suspects, and else those of whom nobody has heard."""
        for state in ("alive", "suspect", "unknown"):
            found = [peer for peer in self.records if self._states.get(peer) == state]
            if found:
                return found
        return []

    def answering(self) -> set[NodeId]:
        """The peers that are not silent: what those send can be compared."""
        return {
            peer
            for peer, record in self.records.items()
            if record.state != "failing" or record.last_code in STRIKE_CODES
        }

    def _choose(self, alive: list[NodeId]) -> tuple[NodeId, ...]:
        if not alive:
            return ()
        chosen = self._topology.choose(self._self_id, alive, self._round, self._rng)
        self._round += 1
        return chosen

    def on_success(self, peer: NodeId, snapshot: SnapshotReply) -> bool:
        """Note merged weights; True if the peer was not known to be live."""
        record = self.records[peer]
        changed = record.state != "live"
        record.state, record.failures, record.last_error, record.last_code = "live", 0, "", ""
        record.pulls += 1
        record.conduct.on_good_pull()
        record.step = snapshot.step
        record.known = snapshot.incarnation, snapshot.version
        self.merged_last = peer
        return changed

    def on_unchanged(self, peer: NodeId, snapshot: SnapshotReply, now: float) -> None:
        """Note that the peer still serves what was merged before, and ask again when it may have something new.

        Merging the same weights once more would only undo this node's own steps. A version that has been the newest
        for some time will probably be so for about as long again.
        """
        record = self.records[peer]
        record.state, record.failures, record.last_error, record.last_code = "live", 0, "", ""
        pause = min(max(snapshot.age or 0.0, SHORTEST_PAUSE), LONGEST_PAUSE)
        record.pause_until = now + pause * self._rng.uniform(0.5, 1.0)

    def on_failure(self, peer: NodeId, error: PeerError, now: float, wasted: float = 0.0) -> bool:
        """Note a failure and pause the peer; True if this is news worth a line in the log.

        Of a peer in quarantine there is no news until something else becomes of it.

        Args:
            peer: Whom.
            error: What went wrong.
            now: Seconds of the machine's monotonic clock.
            wasted: Seconds that the failed pull took from those of other peers.
        """
        record = self.records[peer]
        changed = record.last_code != error.code
        record.last_error, record.last_code, record.last_error_at = error.message, error.code, now
        if error.code in TRANSIENT_PAUSES:
            record.pause_until = now + TRANSIENT_PAUSES[error.code] * self._rng.uniform(0.1, 0.5)
            return False
        record.failures += 1
        term = record.conduct.on_refusal() if error.code in STRIKE_CODES else None
        if term is not None:
            changed = record.state != "quarantined"
            record.state, record.pause_until = "quarantined", now + term
            return changed
        record.state = "failing"
        pause = min(LONGEST_PAUSE, max(FIRST_PAUSE * 2.0 ** min(record.failures - 1, DOUBLINGS), WASTE * wasted))
        record.pause_until = now + pause * self._rng.uniform(0.75, 1.25)
        return changed
