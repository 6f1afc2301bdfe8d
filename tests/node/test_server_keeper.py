"""Keeping a node's server: what is done when it dies, does not come back, or cannot even be started."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from p2pdl.config import load
from p2pdl.errors import ProcessDied
from p2pdl.node import server_keeper
from p2pdl.node.children import Lifeline
from p2pdl.node.server_keeper import ServerKeeper
from tests.node.clusters import make_lab

AGAIN = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class Start:
    """A server's start that takes one look, and then goes as told; stands in for a `Listener`."""

    def __init__(self, outcome: Exception | None) -> None:
        self.ended = False
        self.process: subprocess.Popen[bytes] | None = None
        self._outcome = outcome
        self._looked = False

    def poll(self, seconds: float = 0.0) -> subprocess.Popen[bytes] | None:
        if not self._looked:
            self._looked = True
            return None
        if self._outcome is not None:
            raise self._outcome
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return self.process

    def end(self) -> None:
        self.ended = True


class Starts:
    """The starts of a server: each as told, or an error at once."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.made: list[Start] = []
        self._outcomes = list(outcomes)

    def __call__(self, *arguments: Any) -> Start:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        self.made.append(Start(outcome))
        return self.made[-1]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[ServerKeeper]:
    configuration = load(make_lab(tmp_path, 2).file)
    with closing(Lifeline()) as lifeline:
        keeper = ServerKeeper(configuration, "node1", 0, lifeline, tmp_path)
        yield keeper
        keeper.end()


def use(monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> Starts:
    starts = Starts(*outcomes)
    monkeypatch.setattr(server_keeper, "start_server", starts)
    monkeypatch.setattr(server_keeper, "PAUSES", (0.0,))
    return starts


def test_nothing_waits_for_a_server_that_is_being_started_again(keeper, monkeypatch, caplog):
    caplog.set_level("INFO")
    starts = use(monkeypatch, None, None)
    assert not keeper.listens() and keeper.listens() and keeper.deaths == 0
    keeper.keep()
    process = starts.made[0].process
    assert process is not None and len(starts.made) == 1
    process.kill()
    process.wait()
    keeper.keep()
    assert keeper.deaths == 1 and len(starts.made) == 2 and starts.made[1].process is None
    keeper.keep()
    assert starts.made[1].process is not None
    lost, back = (record.message for record in caplog.records)
    assert lost == "the server process was lost (ended by SIGKILL); starting it again over the same weights"
    assert back == f"the server process answers again on {keeper.address}"


@pytest.mark.parametrize(
    ("failure", "message"),
    [(AGAIN, "the server cannot be started: "), (ProcessDied("it did not start to listen"), "it did not start")],
)
def test_a_server_that_does_not_come_back_is_started_once_more(keeper, monkeypatch, caplog, failure, message):
    starts = use(monkeypatch, None, failure, None)
    keeper.start()
    process = starts.made[0].process
    assert process is not None
    process.kill()
    process.wait()
    for _ in range(4):
        keeper.keep()
    assert starts.made[-1].process is not None and keeper.deaths == 1
    told = caplog.records[-1].message
    assert told.startswith(message) and told.endswith("; training goes on, trying again in 0 s")


def test_a_server_that_cannot_be_started_at_first_is_an_error_and_nothing_is_left(keeper, monkeypatch):
    use(monkeypatch, ProcessDied("it did not start to listen"))
    with pytest.raises(ProcessDied):
        keeper.start()


def test_a_start_is_given_up_with_the_node(keeper, monkeypatch):
    starts = use(monkeypatch, None)
    assert not keeper.listens()
    keeper.end()
    assert starts.made[0].ended
