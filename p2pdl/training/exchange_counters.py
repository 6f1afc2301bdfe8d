"""What an exchange counts; a run that goes on after a break goes on counting."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ExchangeCounters:
    """What the exchange has done so far; seconds are the trainer thread's."""

    merges: int = 0
    merges_skipped: int = 0
    adoptions: int = 0
    clipped: int = 0
    unchanged: int = 0
    busy: int = 0
    publications: int = 0
    bytes_received: int = 0
    payload_bytes_received: int = 0
    pull_seconds: float = 0.0
    wait_seconds: float = 0.0
    merge_seconds: float = 0.0
    publish_seconds: float = 0.0
    staleness_sum: int = 0
    failures: dict[str, int] = field(default_factory=dict)
