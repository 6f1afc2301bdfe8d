"""Where a node's processes write: short lines on the terminal, everything in `node.log`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from p2pdl.types import NodeId


def log_to(path: Path, node: NodeId, process: str, terminal: TextIO | None) -> None:
    """Set up logging of this process.

    Args:
        path: The node's log file, appended to by all its processes.
        node: The node's name, which begins each line of the terminal.
        process: `node`, `trainer` or `server`.
        terminal: Where people read; None for the file only.
    """
    # A terminal that has gone, or a disk that is full, must not end a run.
    logging.raiseExceptions = False
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter(f"%(asctime)s {process:8}%(levelname)-8s%(message)s"))
    handlers: list[logging.Handler] = [file]
    if terminal is not None:
        stream = logging.StreamHandler(terminal)
        stream.setFormatter(_Terminal(node))
        handlers.append(stream)
    logging.basicConfig(handlers=handlers, level=logging.INFO, force=True)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def keep_native_noise_out(path: Path) -> TextIO:
    """Send what libraries write to standard error into the log file.

    Args:
        path: The node's log file.

    Returns:
        The terminal that standard error was.
    """
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    os.close(log)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    return terminal


class _Terminal(logging.Formatter):
    """`node1: message`, with the level where it matters, and no traceback."""

    def __init__(self, node: NodeId) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{self._node}: {level}{record.getMessage()}"
