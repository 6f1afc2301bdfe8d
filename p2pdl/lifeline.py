"""A child process that never outlives its parent, however the parent dies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def end_with_parent(descriptor: int) -> None:
    """End this process at once when the other end of a pipe is closed.

    On Linux the kernel kills it as well, for a process that is stopped or too busy to notice the pipe.

    Args:
        descriptor: The reading end of a pipe whose writing end only the parent holds.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="p2pdl-lifeline", daemon=True).start()
