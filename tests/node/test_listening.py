"""Starting a process that listens: what becomes of one that is killed, fails, or says nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pdl.errors import AddressInUse, ProcessDied
from p2pdl.node import listening
from p2pdl.node.listening import MORE_STARTS, start_listening
from tests.node.clusters import START_SECONDS, make_lab, node
from tests.processes import children, is_running, wait_until

BEGINNING = "import os, pathlib, signal, sys, time; starts = pathlib.Path(__file__).with_name('starts')\n"
READY = "os.write(int(sys.argv[1]), b'\\n'); time.sleep(600)"
DIE = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Starts a process that runs a program, which finds how often it has been started; returns its id."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    listeners: list[subprocess.Popen[bytes]] = []

    def run(program: str) -> int:
        counting = "starts.open('a').write('.'); count = len(starts.read_text())\n"
        (tmp_path / "listener.py").write_text(BEGINNING + counting + program)
        listeners.append(start_listening("listener", str, [], "the server process of node1", "127.0.0.1:1"))
        return listeners[-1].pid

    yield run
    for listener in listeners:
        listener.kill()
        listener.wait()


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text())


def test_a_process_that_is_killed_before_it_listens_is_started_again(start, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        pid = start(f"if count < 3: {DIE}\n{READY}")
    assert is_running(pid) and starts(tmp_path) == 3
    message = "the server process of node1 did not start to listen on 127.0.0.1:1: ended by SIGKILL; starting it again"
    assert [record.message for record in caplog.records] == [message] * 2


def test_a_process_that_is_killed_each_time_is_given_up(start, tmp_path):
    with pytest.raises(ProcessDied, match=f"ended by SIGKILL, {MORE_STARTS + 1} times in a row") as caught:
        start(DIE)
    assert "memory" in caught.value.remedy and starts(tmp_path) == MORE_STARTS + 1


def test_a_process_that_fails_is_not_started_again(start, tmp_path):
    with pytest.raises(ProcessDied, match=r"did not start to listen on 127\.0\.0\.1:1: exit code 3") as caught:
        start("sys.exit(3)")
    assert "log" in caught.value.remedy and starts(tmp_path) == 1


def test_a_process_that_says_nothing_is_ended(start, tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "READY_SECONDS", 0.5)
    with pytest.raises(ProcessDied, match=r"did not start to listen on 127\.0\.0\.1:1 within 0\.5 s"):
        start("time.sleep(600)")
    assert children() == set()


def test_an_error_that_the_process_tells_is_raised(start):
    with pytest.raises(AddressInUse, match="the port is taken") as caught:
        start('os.write(int(sys.argv[1]), b\'["AddressInUse", "the port is taken", "take another"]\\n\')')
    assert caught.value.remedy == "take another"


@pytest.mark.parametrize("kills", [1, 2])
def test_a_node_whose_server_is_killed_while_it_starts_trains_to_its_end(tmp_path, kills):
    lab = make_lab(tmp_path, 1, train={"steps": 50, "batch_size": 32}, gossip={"start_wait": 1.0, "linger": 0.5})
    struck: set[int] = set()
    ending = threading.Event()
    with node(lab, "node1") as started:

        def strike() -> None:
            while len(struck) < kills and not ending.is_set():
                server = started.children().get("server")
                if server is not None and server not in struck:
                    struck.add(server)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(server, signal.SIGKILL)

        striker = threading.Thread(target=strike, name="p2pdl-test-striker")
        striker.start()
        try:
            assert wait_until(lambda: len(struck) == kills, START_SECONDS)
            assert started.wait() == 0
        finally:
            ending.set()
            striker.join()
    # A server that was quick enough to listen before it was struck is told to be lost.
    assert len(re.findall(r"ended by SIGKILL\)?; starting it again", started.said())) == kills
    assert lab.summary("node1")["state"] == "done" and lab.summary("node1")["steps"] == 50
