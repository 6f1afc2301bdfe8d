"""Who may pull from a server at one time: one puller after another, and none that dawdles keeps the others out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pdl.protocol.deadlines import PULL_BOUNDS, SILENCE_BOUNDS, SLACK, DeadlineBounds, LearntDeadline
from p2pdl.protocol.messages import REPLY_LIMIT
from p2pdl.types import NodeId

PAUSE_BOUNDS = DeadlineBounds(floor=2.0, ceiling=SILENCE_BOUNDS.ceiling, initial=5.0)
"""How long an upload for which nothing is asked may take a place; a puller waits no longer for a reply either."""

TERM_BOUNDS = DeadlineBounds(floor=1.0, ceiling=PULL_BOUNDS.ceiling, initial=60.0)
"""How long an upload may take a place in all; after that it goes on beside the others."""

SMALL_NBYTES = REPLY_LIMIT
"""An upload of no more bytes is asked for at once and says nothing about the link; a queue does the turn-taking."""

TURN_SECONDS = 0.2
"""Whoever had the last turn waits so long for those that were refused meanwhile."""

WAITING_SECONDS = 10.0
"""For those that ask more seldom, as after each of their long steps, it stands back once within that time."""

MOST_WAITING = 64
"""Names are the askers' own choice: so many of those that were refused last are remembered."""

Sent = Callable[[], bool]
"""True once a reply has left the process."""


@dataclass(slots=True)
class _Refused:
    """A puller that was told to ask again.

    Attributes:
        at: When.
        was_yielded: Whether the last one to be served has stood back for it since.
    """

    at: float
    was_yielded: bool = False


@dataclass(slots=True)
class _Upload:
    """`asked`, `nbytes` and `longest_pause` count progress only: what is asked for again buys no time.

    Attributes:
        began: When it was admitted.
        asked: When it last asked for something new.
        reached: The element up to which it has asked.
        nbytes: Bytes of the replies.
        largest: Bytes of the largest reply.
        longest_pause: Seconds between two of its requests.
        sent: Known once the last range has been asked for.
    """

    began: float
    asked: float
    reached: int = 0
    nbytes: int = 0
    largest: int = 0
    longest_pause: float = 0.0
    sent: Sent | None = None


class UploadPlaces:
    """Bounds the number of uploads at one time.

    Two transfers that share a link each take twice as long; one after the other, the first is done in half the time
    and the second no later. A puller without a place is told to ask again.

    How long a puller may pause, and how long it may take in all for the bytes it has asked for, is learnt from the
    uploads that have ended, as deadlines are: on a slow link both are long, on a fast one a puller that vanished or
    dawdles soon keeps nobody out. It is served to its end all the same.

    Args:
        limit: Uploads at one time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._uploads: dict[NodeId, _Upload] = {}
        self._pauses = LearntDeadline(PAUSE_BOUNDS)
        self._terms = LearntDeadline(TERM_BOUNDS)
        self._last_served: NodeId = ""
        self._refused: dict[NodeId, _Refused] = {}

    def admit(self, puller: NodeId, now: float) -> bool:
        """True if the puller may begin; a pull that it has begun before is over."""
        self._uploads.pop(puller, None)
        self._refused = {name: it for name, it in self._refused.items() if now - it.at < WAITING_SECONDS}
        self._refused.pop(puller, None)
        yields = puller == self._last_served and self._stands_back(now)
        if yields or self._taken(now) >= self._limit:
            if len(self._refused) == MOST_WAITING:
                del self._refused[next(iter(self._refused))]
            self._refused[puller] = _Refused(now)
            return False
        self._uploads[puller] = _Upload(now, now)
        self._last_served = puller
        return True

    def _stands_back(self, now: float) -> bool:
        """Stand back for those that were refused, if any: for `TURN_SECONDS`, and once if they ask more seldom."""
        waiting = [it for it in self._refused.values() if now - it.at < TURN_SECONDS or not it.was_yielded]
        for it in waiting:
            it.was_yielded = True
        return bool(waiting)

    def touch(self, puller: NodeId, now: float, stop: int, nbytes: int) -> None:
        """The puller has asked for more.

        Args:
            puller: Who.
            now: Seconds of the machine's monotonic clock.
            stop: The element up to which it has asked.
            nbytes: Bytes of the reply.
        """
        upload = self._uploads.get(puller)
        if upload is None or stop <= upload.reached:
            return
        if upload.nbytes:
            upload.longest_pause = max(upload.longest_pause, now - upload.asked)
        upload.asked = now
        upload.reached = stop
        upload.nbytes += nbytes
        upload.largest = max(upload.largest, nbytes)

    def release(self, puller: NodeId, now: float, sent: Sent) -> None:
        """The puller has asked for its last range.

        Its place is free once that has been sent, so that the next upload does not slow down the end of this one; a
        small upload's place is free at once.

        Args:
            puller: Who.
            now: Seconds of the machine's monotonic clock.
            sent: Says whether the last reply has left the process.
        """
        upload = self._uploads.get(puller)
        if upload is None or upload.sent is not None:
            return
        if upload.nbytes <= SMALL_NBYTES:
            del self._uploads[puller]
            return
        upload.sent = sent
        self._pauses.on_success(upload.longest_pause, upload.largest)
        self._terms.on_success(now - upload.began, upload.nbytes)

    def cancel(self, puller: NodeId) -> None:
        """The upload has come to nothing, and says nothing about how long one takes."""
        self._uploads.pop(puller, None)

    def forget(self) -> None:
        """All uploads are over."""
        self._uploads.clear()

    def patience(self, puller: NodeId, now: float) -> float:
        """Seconds that a puller, which asks for something now, may pause afterwards; 0 for one that is not known."""
        upload = self._uploads.get(puller)
        return self._patience(upload, now - upload.asked) if upload else 0.0

    def _patience(self, upload: _Upload, pause: float = 0.0) -> float:
        """What is usual for the bytes of a reply, or what this upload has needed before."""
        own = min(SLACK * max(upload.longest_pause, pause), PAUSE_BOUNDS.ceiling)
        return max(self._pauses.seconds(upload.largest), own)

    def _taken(self, now: float) -> int:
        # Names are the askers' own choice: those that have gone must not pile up. Those that only paused for longer
        # than expected are kept: what they then ask for shows how long pauses on this link are.
        self._uploads = {
            name: it
            for name, it in self._uploads.items()
            if now - it.asked < PAUSE_BOUNDS.ceiling and not (it.sent and it.sent())
        }
        return sum(self._takes(upload, now) for upload in self._uploads.values())

    def _takes(self, upload: _Upload, now: float) -> bool:
        patience = self._patience(upload)
        if upload.sent:
            # Several replies are still under way: as long as all of them take, at the pace of this upload.
            whole = upload.longest_pause * upload.nbytes / max(1, upload.largest)
            patience = max(patience, upload.began + whole - upload.asked)
        return now - upload.asked < patience and now - upload.began < self._terms.seconds(upload.nbytes)
