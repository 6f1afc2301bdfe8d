"""The inner end of a `Worker`: runs one role. Command: python -m tools.benchmarks.role SETTINGS"""

from __future__ import annotations

import importlib
import json
import select
import signal
import sys
from collections.abc import Iterator

from p2pdl.errors import P2pdlError
from p2pdl.lifeline import end_with_parent


def main() -> int:
    name, lifeline, settings = json.loads(sys.argv[1])
    end_with_parent(lifeline)
    # As an exception, so that what this process has started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    module, function = name.split(":")
    try:
        getattr(importlib.import_module(module), function)(**settings)
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def orders() -> Iterator[str]:
    """What this process is told to do, until there is nothing more."""
    while line := sys.stdin.readline():
        yield line.strip()


def is_wanted(seconds: float) -> bool:
    """Whether an order, or the end of them, comes within so many seconds."""
    # Whoever gives orders waits for each answer, so no order is in the buffer of the file.
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def answer(**values: object) -> None:
    """Say something of what was done."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
