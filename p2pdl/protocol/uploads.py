"""Who may pull from a server at one time: one puller after another, and none that dawdles keeps the others out."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

from p2pdl.types import NodeId

IDLE_SECONDS = 2.0
"""An upload for which nothing has been asked for so long no longer takes a place."""

SHORTEST_TERM, LONGEST_TERM = 1.0, 60.0
"""Seconds: bounds of how long an upload may take a place."""

TERM_MEDIANS = 4.0
"""An upload takes a place for so many times the median of recent ones; after that it goes on beside the others."""

RECENT_UPLOADS = 15

TURN_SECONDS = 0.2
"""Whoever had the last turn waits so long for those that were refused meanwhile."""


@dataclass(slots=True)
class _Upload:
    began: float
    asked: float


class UploadPlaces:
    """Bounds the number of uploads at one time.

    Two transfers that share a link each take twice as long; one after the other, the first is done in half the time
    and the second no later. A puller without a place is told to ask again.

    Args:
        limit: Uploads at one time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._uploads: dict[NodeId, _Upload] = {}
        self._durations: deque[float] = deque(maxlen=RECENT_UPLOADS)
        self._last_served: NodeId = ""
        self._refused_at: dict[NodeId, float] = {}

    def admit(self, puller: NodeId, now: float) -> bool:
        """True if the puller may begin; a pull that it has begun before is over."""
        self._uploads.pop(puller, None)
        self._refused_at = {name: at for name, at in self._refused_at.items() if now - at < TURN_SECONDS}
        others_wait = any(name != puller for name in self._refused_at)
        if len(self._taken(now)) >= self._limit or (puller == self._last_served and others_wait):
            self._refused_at[puller] = now
            return False
        self._refused_at.pop(puller, None)
        self._uploads[puller] = _Upload(now, now)
        self._last_served = puller
        return True

    def touch(self, puller: NodeId, now: float) -> None:
        """The puller has asked for more."""
        if puller in self._uploads:
            self._uploads[puller].asked = now

    def release(self, puller: NodeId, now: float) -> None:
        """The puller has asked for its last range."""
        upload = self._uploads.pop(puller, None)
        if upload is not None:
            self._durations.append(now - upload.began)

    def cancel(self, puller: NodeId) -> None:
        """The upload has come to nothing, and says nothing about how long one takes."""
        self._uploads.pop(puller, None)

    def forget(self) -> None:
        """All uploads are over."""
        self._uploads.clear()

    def _taken(self, now: float) -> list[NodeId]:
        term = TERM_MEDIANS * statistics.median(self._durations) if self._durations else LONGEST_TERM
        term = min(max(term, SHORTEST_TERM), LONGEST_TERM)
        # Names are the askers' own choice: those that have gone must not pile up.
        self._uploads = {name: it for name, it in self._uploads.items() if now - it.asked < IDLE_SECONDS}
        return [name for name, it in self._uploads.items() if now - it.began < term]
