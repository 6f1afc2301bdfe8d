"""Which versions a server keeps while pulls are in progress: bounded in number, never taken away in mid-pull."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from p2pdl.spec import Snapshot
from p2pdl.types import NodeId

HELD_VERSIONS = 2
"""The newest, and the one that slower pulls are still reading."""

LEASE_SECONDS = 10.0
"""A puller that asks for nothing for so long no longer holds its version, unless its link is known to be slower."""


class VersionSource(Protocol):
    """Where published versions come from."""

    def newest_version(self) -> int | None:
        """Counter of the newest published version; None before the first. Cheap."""
        ...

    def load(self) -> Snapshot | None:
        """The newest version, which stays as it is while anything refers to it; None if there is none to be had."""
        ...


@dataclass(slots=True)
class _Lease:
    until: float
    request: int


@dataclass(slots=True)
class _Held:
    snapshot: Snapshot
    leases: dict[NodeId, _Lease] = field(default_factory=dict)

    def lease(self, puller: NodeId, now: float, seconds: float, request: int | None = None) -> None:
        lease = self.leases.get(puller)
        if lease is None:
            # Names are the askers' own choice: those that have gone must not pile up.
            self.leases = {name: lease for name, lease in self.leases.items() if lease.until > now}
            lease = self.leases[puller] = _Lease(now, -1)
        lease.until = now + max(LEASE_SECONDS, seconds)
        if request is not None:
            lease.request = request

    def is_leased(self, now: float) -> bool:
        return any(lease.until > now for lease in self.leases.values())


class HeldVersions:
    """At most `HELD_VERSIONS` versions, each kept while somebody pulls it.

    When every copy is being pulled, a newcomer gets the newest of them rather than a newer one: slightly older
    weights for one node, instead of a broken pull for another.

    Args:
        source: Where new versions come from.
    """

    def __init__(self, source: VersionSource) -> None:
        self._source = source
        self._held: dict[int, _Held] = {}

    def newest(self, puller: NodeId, now: float, request: int = 0, patience: float = 0.0) -> Snapshot | None:
        """The version that `puller` should pull, leased to it; None if there is none.

        Args:
            puller: Who asks.
            now: Seconds of the machine's monotonic clock.
            request: The id of its request, by which `leased` finds the version.
            patience: Seconds that it may pause on its link, if that is longer than a lease usually lasts.
        """
        for held in self._held.values():
            held.leases.pop(puller, None)
        available = self._source.newest_version()
        if available is not None and available not in self._held and self._make_room(now):
            snapshot = self._source.load()
            if snapshot is not None:
                self._held[snapshot.info.version] = _Held(snapshot)
        if not self._held:
            return None
        held = self._held[max(self._held)]
        held.lease(puller, now, patience, request)
        return held.snapshot

    def get(self, version: int, puller: NodeId, now: float, patience: float = 0.0) -> Snapshot | None:
        """A held version, its lease renewed as by `newest`; None if it has been replaced."""
        held = self._held.get(version)
        if held is None:
            return None
        held.lease(puller, now, patience)
        return held.snapshot

    def leased(self, puller: NodeId, now: float, request: int = 0, patience: float = 0.0) -> Snapshot | None:
        """The version leased to `puller` by a request, its lease renewed; None if there is none."""
        for held in self._held.values():
            if puller in held.leases and held.leases[puller].request == request:
                held.lease(puller, now, patience)
                return held.snapshot
        return None

    def end_lease(self, version: int, puller: NodeId) -> None:
        """`puller` has asked for the last part of the version."""
        if version in self._held:
            self._held[version].leases.pop(puller, None)

    def forget(self) -> None:
        """Drop everything: what peers know of the trainer's former life tells them nothing about this one."""
        self._held.clear()

    def _make_room(self, now: float) -> bool:
        if len(self._held) < HELD_VERSIONS:
            return True
        for version in sorted(self._held):
            if not self._held[version].is_leased(now):
                del self._held[version]
                return True
        return False
