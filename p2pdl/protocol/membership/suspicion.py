"""How long a suspected member has to refute it: the less, the more members suspect it independently.

Dadgar, Phillips, Currey (2018), "Lifeguard: Local Health Awareness for More Accurate Failure Detection": section IV.B,
timeout = max(shortest, longest - (longest - shortest) log(C + 1) / log(K + 1)), for C of K confirmations.
"""

from __future__ import annotations

import math

from p2pdl.protocol.membership.presets import MembershipSettings
from p2pdl.types import NodeId


class Suspicion:
    """One member under suspicion.

    Args:
        accuser: Who suspects it; empty if nobody does of its own knowledge.
        now: Monotonic seconds.
        members: Members present, this node and the suspect included.
        settings: Gives the times.

    Attributes:
        accusers: Who suspects it.
    """

    def __init__(self, accuser: NodeId, now: float, members: int, settings: MembershipSettings) -> None:
        self.accusers: set[NodeId] = {accuser} if accuser else set()
        self._began = now
        self._shortest = settings.shortest_suspicion(members)
        self._longest = settings.longest_suspicion(members)
        expected = settings.suspicion_multiplier - 2
        # Where there are too few to confirm it, nobody is waited for.
        self._expected = expected if members - 2 >= expected else 0

    @property
    def deadline(self) -> float:
        """Monotonic seconds after which the member counts as dead."""
        return self._began + self._seconds()

    def confirm(self, accuser: NodeId) -> bool:
        """Another member suspects it; True if that is news that others should hear."""
        if not accuser or accuser in self.accusers or len(self.accusers) > self._expected:
            return False
        self.accusers.add(accuser)
        return True

    def postpone(self, seconds: float) -> None:
        """Do not count a time in which this node did not run."""
        self._began += seconds

    def _seconds(self) -> float:
        if not self._expected:
            return self._shortest
        confirmations = max(0, len(self.accusers) - 1)
        share = math.log(confirmations + 1) / math.log(self._expected + 1)
        return max(self._shortest, self._longest - (self._longest - self._shortest) * share)
