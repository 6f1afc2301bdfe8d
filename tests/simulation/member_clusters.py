"""Simulated memberships in agreement, for tests to break."""

from __future__ import annotations

import math

from p2pdl.protocol.membership.presets import PRESETS
from p2pdl.simulation.membership import MembershipCluster

LAN = PRESETS["lan"]

JOINING_SECONDS = 10.0
"""Within which all nodes of a file know each other, if they start within one second."""

HEALING_SECONDS = 1.25 * LAN.dead_contact + 10.0
"""Within which two halves that meet again agree: one attempt at reaching each other, and the time of a rumour."""


def found(count: int, seed: int = 0, is_encoded: bool = True, lateness: float = 0.0) -> MembershipCluster:
    """A cluster whose nodes know each other and have nothing to tell any more."""
    cluster = MembershipCluster(count, LAN, seed, is_encoded, lateness=lateness)
    everybody = cluster.run_until(lambda: len(cluster.running) == count and cluster.agrees(), JOINING_SECONDS)
    assert everybody < math.inf
    cluster.run(20.0)
    return cluster


def incarnations(cluster: MembershipCluster) -> set[int]:
    return {member.incarnation for it in cluster.running for member in it.core.members.values()}
