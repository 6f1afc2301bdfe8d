"""Starts a process that listens on a port, and waits until it does."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from p2pdl import errors
from p2pdl.errors import P2pdlError, ProcessDied
from p2pdl.node.restarts import Restarts, how_it_ended

READY_SECONDS = 60.0
"""How long a process may take until it listens: half a second is usual, half a minute while a dozen nodes load
TensorFlow on two cores."""

MORE_STARTS = 3
"""How often a process that is killed before it listens is started again: a chance kill does not strike so often."""

KILLED = "find out what ends it: the system does so when memory runs out"

ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Bytes from which on glibc fetches and returns memory piece by piece, and free bytes that it keeps at most."""

log = logging.getLogger(__name__)


def start_listening(
    module: str, argument: Callable[[int], str], descriptors: Sequence[int], what: str, bind: str, has_log: bool = True
) -> subprocess.Popen[bytes]:
    """Start a process and wait until it says that it listens; one that is killed before is started again.

    Args:
        module: What Python runs.
        argument: Makes its argument, given the descriptor to which it writes one line: empty when it listens, else the
            class, message and remedy of an error as a JSON list.
        descriptors: Those that it inherits.
        what: How to call it in messages.
        bind: Where it is to listen.
        has_log: Whether there is a log to look into.

    Raises:
        StartupError: It cannot listen there, or its keys cannot be used.
        ProcessDied: It ended, or did not say that it listens.
    """
    restarts = Restarts(MORE_STARTS)
    why = "the node's log may say why" if has_log else ""
    while True:
        process, ready = _start(module, argument, descriptors)
        try:
            line = _read_line(ready, READY_SECONDS)
        except TimeoutError:
            process.kill()
            process.wait()
            raise ProcessDied(f"{what} did not start to listen on {bind} within {READY_SECONDS:g} s", why) from None
        finally:
            os.close(ready)
        if line == "":
            return process
        if line is not None:
            process.kill()
            process.wait()
            kind, message, remedy = json.loads(line)
            error_class: type[P2pdlError] = getattr(errors, kind)
            raise error_class(message, remedy)
        code = process.wait()
        message = f"{what} did not start to listen on {bind}: {how_it_ended(code)}"
        if code >= 0:
            raise ProcessDied(message, why)
        pause = restarts.on_death(time.monotonic())
        if pause is None:
            raise ProcessDied(f"{message}, {restarts.deaths} times in a row", KILLED)
        log.warning("%s; starting it again", message)
        time.sleep(pause)


def exchange_environment() -> dict[str, str]:
    """This process's environment for a process that handles shards; what the user set stays.

    glibc gives freed memory of a shard's size back to the kernel, and fetches it anew for the next shard, page by page:
    that took two thirds of the time of an encoding to `int8`.
    """
    return {**ALLOCATION, **os.environ}


def _start(
    module: str, argument: Callable[[int], str], descriptors: Sequence[int]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process; returns it with the descriptor from which to read its line."""
    ready, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, argument(writing)],
            pass_fds=(*descriptors, writing),
            stdin=subprocess.DEVNULL,
            env=exchange_environment(),
            process_group=0,
        )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(writing)
    return process, ready


def _read_line(descriptor: int, seconds: float) -> str | None:
    """A line without its end; None if the other end was closed before.

    Raises:
        TimeoutError: Nothing came for too long.
    """
    give_up_at = time.monotonic() + seconds
    received = b""
    while not received.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, give_up_at - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(descriptor, 4096)
        if not piece:
            return None
        received += piece
    return received.decode().rstrip("\n")
