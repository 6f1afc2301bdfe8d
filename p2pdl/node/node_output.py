"""What a node writes to standard error, as messages with a level, for a terminal that shows several nodes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from p2pdl.types import NodeId

Level = Literal["info", "warning", "error", "other"]
LEVELS: tuple[Level, ...] = ("warning", "error")

CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a node.

    Attributes:
        node: Who wrote it; empty if it is about all nodes.
        level: `other` is what no log has written, such as the output of a function of the user's.
        text: What it says, without the node's name; a remedy follows on a line of its own.
    """

    node: NodeId
    level: Level
    text: str

    def __str__(self) -> str:
        if not self.node:
            return self.text
        level = f"{self.level}: " if self.level in LEVELS else ""
        return f"{self.node}: {level}{self.text}"


def parse(node: NodeId, text: str) -> Message:
    """A message out of what was written: `node1: warning: text` of a log, `p2pdl: text` of a command, or else."""
    if text.startswith("p2pdl: "):
        return Message(node, "error", text.removeprefix("p2pdl: "))
    body = text.removeprefix(f"{node}: ")
    if body == text:
        return Message(node, "other", text)
    for level in LEVELS:
        if body.startswith(f"{level}: "):
            return Message(node, level, body.removeprefix(f"{level}: "))
    return Message(node, "info", body)


def read_messages(node: NodeId, descriptor: int, put: Callable[[Message], None]) -> threading.Thread:
    """Read a pipe in a thread until its last writer has closed it; the thread closes its own end.

    Args:
        node: Who writes into it.
        descriptor: The pipe's reading end.
        put: Takes each message; called from the thread.
    """

    def run() -> None:
        try:
            for text in _messages(descriptor):
                put(parse(node, text))
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=run, name=f"p2pdl-output-{node}", daemon=True)
    thread.start()
    return thread


def _messages(descriptor: int) -> Iterator[str]:
    """Lines, each with the indented lines that belong to it."""
    rest = b""
    while piece := os.read(descriptor, CHUNK):
        *lines, rest = (rest + piece).split(b"\n")
        # A process writes a message in one piece, so what is indented has come along with it.
        message: list[str] = []
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if message and not text.startswith(" "):
                yield "\n".join(message)
                message = []
            if text:
                message.append(text)
        if message:
            yield "\n".join(message)
    if rest:
        yield rest.decode(errors="replace").rstrip()
