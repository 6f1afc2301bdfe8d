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
from p2pdl.node.listening import MORE_STARTS, READY_SECONDS, Listener
from tests.node.clusters import START_SECONDS, NodeProcess, make_lab, node
from tests.processes import children, is_running, is_stopped, wait_until

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
        listeners.append(Listener("listener", str, [], "the server process of node1", "127.0.0.1:1").ready())
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


def test_a_process_that_is_given_up_before_it_listens_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "listener.py").write_text("import time; time.sleep(600)")
    listener = Listener("listener", str, [], "the server process of node1", "127.0.0.1:1")
    assert listener.poll() is None and len(children()) == 1
    listener.end()
    assert children() == set()


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


def test_a_node_is_stopped_though_its_server_does_not_come_to_listen(tmp_path):
    lab = make_lab(tmp_path, 1, train={"steps": 10_000_000, "batch_size": 32}, gossip={"start_wait": 1.0})
    with node(lab, "node1") as started:
        stop_server(started)
        started.signal(signal.SIGTERM)
        assert started.wait(READY_SECONDS / 2) == 0
    assert lab.summary("node1")["state"] == "stopped"


def test_a_trainer_is_stopped_and_saved_though_its_server_does_not_come_back(tmp_path):
    lab = make_lab(tmp_path, 1, train={"steps": 10_000_000, "batch_size": 32}, gossip={"start_wait": 1.0})
    with node(lab, "node1") as started:
        assert wait_until(lambda: lab.has_reached("node1", 20), START_SECONDS)
        lost = started.children()["server"]
        os.kill(lost, signal.SIGKILL)
        stop_server(started, lost)
        started.signal(signal.SIGTERM)
        assert started.wait(READY_SECONDS / 2) == 0
    summary = lab.summary("node1")
    assert summary["state"] == "stopped" and list(lab.checkpoints("node1"))[-1] == summary["steps"]


def stop_server(started: NodeProcess, but: int = 0) -> None:
    """Let the server process that a node starts stand still before it listens."""
    server = 0

    def is_there() -> bool:
        nonlocal server
        server = started.children().get("server", but)
        return server != but

    assert wait_until(is_there, START_SECONDS)
    os.kill(server, signal.SIGSTOP)
    assert wait_until(lambda: is_stopped(server), START_SECONDS)
