"""A process among its siblings: it never outlives its parent, and the exchange of weights yields to the training."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1

EXCHANGE_NICENESS = 10
"""Of the threads that exchange weights: where every core computes, they get about a tenth of one."""


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


def yield_to_training() -> None:
    """Let the calling thread, and those that it starts, compute only when training leaves a core free.

    Linux keeps a niceness for each thread; elsewhere this does nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), EXCHANGE_NICENESS)
