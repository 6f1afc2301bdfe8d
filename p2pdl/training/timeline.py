"""What a node did when, as a file for trace viewers: spans of time on the tracks of the trainer and of its pullers.

The JSON array of Chrome's Trace Event Format, which chrome://tracing and https://ui.perfetto.dev open.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path

from p2pdl.training.recorder import finite

log = logging.getLogger(__name__)

FILE_NAME = "timeline.json"

TRAINER = "trainer"
"""The uppermost row of the picture; those of the pullers follow."""

BATCH = 1024
"""Spans held in memory, at most."""

LIMIT_NBYTES = 128 << 20
"""What viewers still open quickly: about a million spans."""

CLOSING = b"\n]\n"

Span = tuple[str, str, float, float, dict[str, object]]
"""Track, name, start and end in seconds, details."""


class Timeline:
    """Writes spans to a file, which is whole after every `flush`: that of a process that was killed opens as well.

    Times in the file are those of the machine's monotonic clock in microseconds, and the process is the real one, so
    that the files of several nodes of a machine can be put together. A full disk ends the timeline, not the run.

    Args:
        path: The file, made anew.
        node: The node's name, which the viewer shows.
        pullers: How many pulls there are at one time.
        limit: Bytes of the file, at most; spans beyond that are left out.

    Attributes:
        pullers: The track of each of them: `puller`, or `puller 1`, `puller 2` and so on.
    """

    def __init__(self, path: Path, node: str, pullers: int = 1, limit: int = LIMIT_NBYTES) -> None:
        self._path = path
        self._limit = limit
        self._spans: list[Span] = []
        self._process = os.getpid()
        self.pullers = ("puller",) if pullers == 1 else tuple(f"puller {number + 1}" for number in range(pullers))
        self._tracks = {track: number for number, track in enumerate((TRAINER, *self.pullers), start=1)}
        self._end = 0
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            self._append("[\n" + ",\n".join(self._names(node)))
        except OSError as error:
            self._give_up(f"cannot write {path} ({error.strerror})")

    def record(self, track: str, name: str, started: float, ended: float, **details: object) -> None:
        """Note a span; call it from one thread.

        Args:
            track: `TRAINER` or one of `pullers`.
            name: What was done.
            started: Monotonic seconds.
            ended: Monotonic seconds, not before `started`.
            details: JSON values that the viewer shows with the span.
        """
        if self._descriptor < 0:
            return
        self._spans.append((track, name, started, ended, details))
        if len(self._spans) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted."""
        spans, self._spans = self._spans, []
        if self._descriptor < 0 or not spans:
            return
        # Of spans that start together the outer one comes first, as viewers expect it.
        spans.sort(key=lambda span: (span[2], -span[3]))
        try:
            self._append("".join(f",\n{self._event(*span)}" for span in spans))
        except OSError as error:
            self._give_up(f"cannot write {self._path} ({error.strerror})")
        if self._end > self._limit:
            self._give_up(f"{self._path} has {self._end / 1e6:.0f} MB and ends here")

    def close(self) -> None:
        """Write the rest; does nothing a second time."""
        self.flush()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, text: str) -> None:
        # One write, over the old closing bracket: between two writes the file always has one.
        data = text.encode()
        if os.pwrite(self._descriptor, data + CLOSING, self._end) < len(data) + len(CLOSING):
            raise OSError(0, "it could be written only in part")
        self._end += len(data)

    def _give_up(self, reason: str) -> None:
        log.warning("%s; training goes on without a timeline", reason)
        self._spans.clear()
        if self._descriptor < 0:
            return
        # What was written in part goes; viewers open an array without its closing bracket too.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._end)
            os.pwrite(self._descriptor, CLOSING, self._end)
        os.close(self._descriptor)
        self._descriptor = -1

    def _names(self, node: str) -> list[str]:
        names: list[tuple[str, int, dict[str, object]]] = [("process_name", 0, {"name": node})]
        for track, number in self._tracks.items():
            names.append(("thread_name", number, {"name": track}))
            names.append(("thread_sort_index", number, {"sort_index": number}))
        return [
            json.dumps({"ph": "M", "pid": self._process, "tid": number, "name": name, "args": value})
            for name, number, value in names
        ]

    def _event(self, track: str, name: str, started: float, ended: float, details: dict[str, object]) -> str:
        # Both ends are rounded, not the length: spans that follow each other never overlap.
        begin, end = round(1e6 * started), round(1e6 * ended)
        event: dict[str, object] = {
            "ph": "X",
            "pid": self._process,
            "tid": self._tracks[track],
            "name": name,
            "ts": begin,
            "dur": end - begin,
        }
        if details:
            event["args"] = finite(details)
        return json.dumps(event)
