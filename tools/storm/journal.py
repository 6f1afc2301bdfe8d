"""The journal of a storm: JSON lines, of which the first says what was run, and the others what befell whom."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pdl.errors import StartupError
from p2pdl.types import NodeId
from tools.storm.events import Event

VERSION = 1


class Journal:
    """Writes a journal; each line is on the disk's way before the next thing is done.

    Args:
        path: A new file.
        settings: What is run.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._file = path.open("x", buffering=1)
        self._write({"journal": VERSION, "time": time.time(), **settings})

    def event(self, event: Event, struck: bool) -> None:
        """Note an event.

        Args:
            event: What it was.
            struck: False if there was nothing to strike.
        """
        self._write({"time": time.time(), **event.to_json(), "struck": struck})

    def note(self, at: float, node: NodeId, text: str) -> None:
        """Note something that is no event.

        Args:
            at: Seconds since the storm began.
            node: Whom it concerns; empty for all.
            text: What it is.
        """
        self._write({"time": time.time(), "at": round(at, 3), "node": node, "note": text})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")


def read(path: Path) -> tuple[dict[str, Any], list[Event]]:
    """The settings and the events of a journal; half a line at the end, which a kill leaves, is left out.

    Raises:
        StartupError: It cannot be read, or is none.
    """
    try:
        first, *rest = path.read_text().split("\n")[:-1]
        settings = json.loads(first)
        if settings.pop("journal", None) != VERSION:
            raise ValueError(f"its first line does not say that it is a journal of version {VERSION}")
        lines = [json.loads(line) for line in rest]
        return settings, [Event.from_json(line) for line in lines if "act" in line]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise StartupError(
            f"{path} cannot be replayed: {error}", "name the journal.jsonl that a storm has left"
        ) from None
