"""How soon members notice each other's silence, and what that costs: three sets of values.

They are those of memberlist, HashiCorp's implementation of SWIM, but for `local`: on one machine the nodes compete for
the same processors, so a probe may take as long as on a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class MembershipSettings:
    """Times in seconds.

    Attributes:
        probe_interval: Time between two probes of a member, each of another one.
        probe_timeout: Time after which others are asked to probe a member that has not answered.
        relays: How many others.
        suspicion_multiplier: A suspicion that several members share lasts at least so many probe intervals, times the
            decimal logarithm of the number of members.
        suspicion_stretch: A suspicion that nobody shares lasts so many times longer.
        retransmit_multiplier: A member sends a rumour so many times, times the decimal logarithm of the number of
            members, rounded up.
        gossip_interval: Time between two rounds of rumours while there is something to tell.
        fanout: Members that a round goes to.
        sync_interval: Time between two comparisons of the whole list with another member.
        dead_contact: Time between two attempts at reaching a member that is dead.
        forget_after: Time after which a member that is dead or has left is forgotten.

    Raises:
        ValueError: Such a member could not work.
    """

    probe_interval: float
    probe_timeout: float
    relays: int
    suspicion_multiplier: int
    suspicion_stretch: float
    retransmit_multiplier: int
    gossip_interval: float
    fanout: int
    sync_interval: float
    dead_contact: float
    forget_after: float = 86400.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ValueError(f"{field.name} must be above 0 and finite, not {value}")
        if self.probe_timeout >= self.probe_interval:
            raise ValueError(
                f"probe_timeout must be below probe_interval, so that others can still be asked, not "
                f"{self.probe_timeout} of {self.probe_interval} s"
            )
        if self.suspicion_stretch < 1:
            raise ValueError(f"suspicion_stretch must be 1 at least, not {self.suspicion_stretch}")

    def shortest_suspicion(self, members: int) -> float:
        """How long a member that several others suspect has to refute it, in seconds."""
        return self.suspicion_multiplier * max(1.0, math.log10(max(1, members))) * self.probe_interval

    def longest_suspicion(self, members: int) -> float:
        """How long a member that only one other suspects has to refute it, in seconds."""
        return self.suspicion_stretch * self.shortest_suspicion(members)

    def sends(self, members: int) -> int:
        """How often each member sends a rumour before it considers it known."""
        return self.retransmit_multiplier * math.ceil(math.log10(members + 1))


PRESETS = {
    "local": MembershipSettings(
        probe_interval=1.0,
        probe_timeout=0.5,
        relays=1,
        suspicion_multiplier=3,
        suspicion_stretch=6.0,
        retransmit_multiplier=3,
        gossip_interval=0.1,
        fanout=3,
        sync_interval=15.0,
        dead_contact=15.0,
    ),
    "lan": MembershipSettings(
        probe_interval=1.0,
        probe_timeout=0.5,
        relays=3,
        suspicion_multiplier=4,
        suspicion_stretch=6.0,
        retransmit_multiplier=4,
        gossip_interval=0.2,
        fanout=3,
        sync_interval=30.0,
        dead_contact=30.0,
    ),
    "wan": MembershipSettings(
        probe_interval=5.0,
        probe_timeout=3.0,
        relays=3,
        suspicion_multiplier=6,
        suspicion_stretch=6.0,
        retransmit_multiplier=4,
        gossip_interval=0.5,
        fanout=4,
        sync_interval=60.0,
        dead_contact=60.0,
    ),
}
"""By the name that a configuration uses."""
