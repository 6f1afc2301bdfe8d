"""Runs a command on each host, passes on what they say, and waits for their ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from tools.lab import marks
from tools.lab.commands import filled
from tools.lab.contract import Lab

WATCH_SECONDS = 0.05
GRACE_SECONDS = 5.0
"""How long a command that is ended may take to leave things in order."""


def run_all(
    lab: Lab, names: Sequence[str], commands: Mapping[str, Sequence[str]], until: str | None, seconds: float | None
) -> dict[str, int | None]:
    """Run commands until they have ended, or one has failed: then the others are ended, and so is the laboratory.

    Args:
        lab: The hosts.
        names: Of the hosts.
        commands: For some or all of them.
        until: The host whose command's end ends all; None to wait for each.
        seconds: After which all are ended; None for never.

    Returns:
        The exit code of each command; None for those that were ended here.

    Raises:
        StartupError: A command cannot be started.
    """
    give_up_at = float("inf") if seconds is None else time.monotonic() + seconds
    running: dict[str, subprocess.Popen[bytes]] = {}
    voices = []
    lock = threading.Lock()
    wanted = {name: filled(command, names.index(name), names, lab) for name, command in commands.items()}
    try:
        for name, command in wanted.items():
            process = lab.run(
                names.index(name),
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Ctrl-C of the terminal comes to this process alone, which then ends the commands.
                process_group=0,
            )
            running[name] = process
            assert process.stdout is not None
            voices.append(threading.Thread(target=_pass_on, args=(name, process.stdout, lock), name=f"p2pdl-{name}"))
            voices[-1].start()
        ended: dict[str, int | None] = dict.fromkeys(running)
        while time.monotonic() < give_up_at:
            ended = {name: process.poll() for name, process in running.items()}
            if None not in ended.values() or any(ended.values()) or (until and ended[until] is not None):
                break
            time.sleep(WATCH_SECONDS)
        return ended
    finally:
        _end(list(running.values()))
        for voice in voices:
            voice.join()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask commands to end, and kill after a while what they are and have started."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        process.terminate()
    give_up_at = time.monotonic() + GRACE_SECONDS
    while any(process.poll() is None for process in left) and time.monotonic() < give_up_at:
        time.sleep(WATCH_SECONDS)
    # Whatever they have started may hold the pipes open that are read to their ends.
    marks.end_own()
    for process in processes:
        process.wait()


def _pass_on(name: str, said: IO[bytes], lock: threading.Lock) -> None:
    """Write what a command says, line by line, with its host before it."""
    with said:
        for line in said:
            with lock:
                sys.stdout.buffer.write(f"[{name}] ".encode() + line.rstrip(b"\n") + b"\n")
                sys.stdout.buffer.flush()
