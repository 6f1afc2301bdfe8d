"""The storm as people run it: it says what is wrong with its command line, ends everything, and keeps promises."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, is_running, is_stopped, wait_until
from tools.storm import journal
from tools.storm.events import KINDS
from tools.storm.processes import MARK, children, end_marked, marked, sample, stores
from tools.storm.schedule import storm

COMMAND = [sys.executable, "-m", "tools.storm"]
START_SECONDS, END_SECONDS = 60.0, 90.0


def test_kernel_says_what_a_marked_process_holds_and_it_is_ended(tmp_path: Path) -> None:
    code = "import os; os.memfd_create('p2pdl-weights'); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, MARK: "here"},
    )
    try:
        assert process.stdout is not None and process.stdin is not None and process.stdout.readline() == b"1\n"
        assert marked("here") == [process.pid] and marked("her") == []
        found = sample("node1", "trainer", process.pid)
        assert found is not None and found.threads == 1 and found.descriptors >= 4 and found.mebibytes > 1
        assert len(stores([process.pid])) == 1 and stores([os.getpid()]) == set()
        assert children(process.pid) == {}
        os.kill(process.pid, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process.pid), 10.0)
        assert end_marked("here") == [] and not is_running(process.pid)
        assert process.wait() == -signal.SIGKILL and sample("node1", "trainer", process.pid) is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--kinds", "kill,rain"], "there is no kind rain"),
        (["--config", "nothing.yaml"], "no such file"),
        (["--replay", "nothing.jsonl"], "cannot be replayed"),
        (["--nodes", "1"], "--nodes"),
    ],
)
def test_mistake_on_the_command_line_is_told(words: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, *words, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name something in a folder."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if int(name) != os.getpid() and any(str(folder) in word for word in command) and is_running(int(name)):
            found.append(" ".join(command))
    return found


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_signal_ends_every_node(number: signal.Signals, code: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, "--nodes", "2", "--data", "digits", "--out", str(out)]
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, process_group=0)
    try:
        # The storm itself, two supervisors, their servers and their trainers.
        assert wait_until(lambda: len(processes_of(out)) == 7, START_SECONDS), (tmp_path / "said").read_text()
        running.send_signal(number)
        assert running.wait(END_SECONDS) == code
        assert wait_until(lambda: processes_of(out) == [], END_SECONDS), processes_of(out)
    finally:
        running.kill()
        running.wait()
    said_at_the_end = (tmp_path / "said").read_text()
    assert "KeyboardInterrupt" not in said_at_the_end and "SystemExit" not in said_at_the_end


@pytest.mark.slow
def test_small_storm_breaks_no_promise_and_can_be_replayed(tmp_path: Path) -> None:
    words = ["--nodes", "3", "--seconds", "30", "--every", "3", "--seed", "11", "--data", "digits", "--steps", "20000"]
    done = subprocess.run([*COMMAND, *words, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    written = tmp_path / "out" / "storm" / "journal.jsonl"
    assert journal.read(written)[1] == storm(11, ("node1", "node2", "node3"), 30.0, KINDS, 3.0)
    shorter = tmp_path / "shorter.jsonl"
    first, *rest = written.read_text().splitlines()
    kept = [json.loads(line) for line in rest if '"act": "kill server"' in line]
    # Soon: without the other faults the nodes may be done before this one came.
    soon = [json.dumps(strike | {"at": 3.0 + number}) for number, strike in enumerate(kept)]
    shorter.write_text("\n".join([first, *soon]) + "\n")
    again = subprocess.run(
        [*COMMAND, "--replay", str(shorter), "--out", str(tmp_path / "again")], cwd=ROOT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert journal.read(tmp_path / "again" / "storm" / "journal.jsonl")[1] == journal.read(shorter)[1]
