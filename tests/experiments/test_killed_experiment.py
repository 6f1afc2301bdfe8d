"""An experiment that is killed with -9 leaves no process, and the next one removes its network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.harness.hosts import Hosts
from experiments.network import NAMESPACES
from tests.processes import ROOT, wait_until

START_SECONDS, END_SECONDS = 120.0, 60.0


def processes_of(folder: Path) -> list[int]:
    """Ids of all processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if str(folder) in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def namespaces_of(process: int) -> list[str]:
    """The namespaces that a process has made."""
    return [name for name in os.listdir(NAMESPACES) if name.startswith(f"p2pdl-{process}-")]


@pytest.mark.root
def test_killed_experiment_leaves_no_process_and_its_namespaces_go_with_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "cui_speed", "--size", "smoke", "--out", str(tmp_path)]
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
    try:
        trains = f"{tmp_path}/smoke/cui_speed/left"
        assert wait_until(lambda: len(processes_of(Path(trains))) >= 4, START_SECONDS), (tmp_path / "said").read_text()
        assert namespaces_of(running.pid)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert wait_until(lambda: not processes_of(tmp_path), END_SECONDS)
    with Hosts(["node1", "node2"], {}):
        assert not namespaces_of(running.pid)
        assert namespaces_of(os.getpid())
    assert not namespaces_of(os.getpid())
