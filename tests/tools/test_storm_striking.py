"""What is done to nodes, and undone in time, against nodes that only pretend to run."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.storm import journal
from tools.storm.events import Event
from tools.storm.striking import Striker


class Pretended:
    """A node whose processes are names, and that writes down what is done to it."""

    def __init__(self, name: str) -> None:
        self.name, self.done, self.is_done = name, [], False
        self.running = {"supervisor": 1, "server": 2, "trainer": 3}
        self.code: int | None = None
        self.proxy = self

    def processes(self) -> dict[str, int]:
        return dict(self.running)

    def signal(self, role: str, number: signal.Signals) -> bool:
        if role in self.running:
            self.done.append(f"{number.name} {role}")
        return role in self.running

    def reap(self) -> int | None:
        code, self.code = self.code, None
        return code

    def end(self, code: int) -> None:
        self.running, self.code = {}, code

    def start(self) -> None:
        self.done.append("start")
        self.running = {"supervisor": 4, "server": 5, "trainer": 6}

    def last_words(self) -> str:
        return "alas"

    def half_open(self) -> None:
        self.done.append("half open")

    def corrupt(self, every: int) -> None:
        self.done.append(f"corrupt {every}")

    def bandwidth(self, nbytes: float) -> None:
        self.done.append(f"bandwidth {nbytes:g}")

    def latency(self, seconds: float) -> None:
        self.done.append(f"latency {seconds:g}")

    def heal(self) -> None:
        self.done.append("heal")


class Struck:
    """A striker over one pretended node."""

    def __init__(self, folder: Path, *events: Event) -> None:
        self.node = Pretended("node1")
        self.said: list[str] = []
        self.journal = journal.Journal(folder / "journal.jsonl", {})
        self.striker = Striker(
            {"node1": self.node},  # type: ignore[dict-item]
            events,
            self.journal,
            lambda at, node, text: self.said.append(text),
        )

    def events(self) -> list[tuple[str, bool]]:
        """The acts in the journal, and whether there was something to strike."""
        written = [json.loads(line) for line in self.journal.path.read_text().splitlines()]
        return [(line["act"], line["struck"]) for line in written if "act" in line]


@pytest.fixture
def strike(tmp_path: Path) -> Iterator[Any]:
    made: list[Struck] = []

    def make(*events: Event) -> Struck:
        made.append(Struck(tmp_path, *events))
        return made[-1]

    yield make
    for one in made:
        one.journal.close()


@pytest.mark.parametrize(
    "act, value, done",
    [
        ("partition", 0.0, "half open"),
        ("corrupt", 1000.4, "corrupt 1000"),
        ("narrow", 2e4, "bandwidth 20000"),
        ("delay", 0.25, "latency 0.25"),
    ],
)
def test_link_is_disturbed_and_healed(strike, act: str, value: float, done: str) -> None:
    struck = strike(Event(1.0, "node1", act, 3.0, value))
    struck.striker.look(0.9)
    assert struck.node.done == []
    struck.striker.look(1.1)
    assert struck.node.done == [done] and not struck.striker.is_over
    struck.striker.look(4.2)
    assert struck.node.done == [done, "heal"] and struck.striker.is_over
    assert struck.striker.stops == [] and struck.events() == [(act, True)]


def test_paused_node_goes_on_with_its_supervisor_last(strike) -> None:
    struck = strike(Event(1.0, "node1", "pause node", 2.0))
    struck.striker.look(1.0)
    struck.striker.look(3.1)
    stopped = [f"SIGSTOP {role}" for role in ("supervisor", "server", "trainer")]
    assert struck.node.done == [*stopped, *(f"SIGCONT {role}" for role in ("trainer", "server", "supervisor"))]
    assert [stop.lost for stop in struck.striker.stops] == [False]


def test_process_that_has_come_in_place_of_a_paused_one_is_left_alone(strike) -> None:
    struck = strike(Event(1.0, "node1", "pause trainer", 2.0))
    struck.striker.look(1.0)
    struck.node.running["trainer"] = 9
    struck.striker.look(3.1)
    assert struck.node.done == ["SIGSTOP trainer"] and struck.striker.is_over


@pytest.mark.parametrize("act, number, code", [("kill supervisor", "SIGKILL", -9), ("restart", "SIGTERM", 0)])
def test_ended_node_is_started_again_once_it_is_gone(strike, act: str, number: str, code: int) -> None:
    struck = strike(Event(1.0, "node1", act, 2.0))
    struck.striker.look(1.0)
    struck.striker.look(9.0)
    assert struck.node.done == [f"{number} supervisor"] and not struck.striker.is_over
    struck.node.end(code)
    struck.striker.look(10.0)
    assert not struck.striker.is_over
    struck.striker.look(12.1)
    assert struck.node.done == [f"{number} supervisor", "start"] and struck.striker.is_over
    assert struck.striker.wrong == [] and [stop.lost for stop in struck.striker.stops] == [True]


def test_node_that_was_done_before_it_ended_is_not_started_again(strike) -> None:
    struck = strike(Event(1.0, "node1", "kill supervisor", 0.0), Event(5.0, "node1", "kill server"))
    struck.striker.look(1.0)
    struck.node.is_done = True
    struck.node.end(-9)
    struck.striker.look(6.0)
    assert struck.striker.ended == {"node1"} and struck.striker.is_over and struck.striker.wrong == []
    assert "start" not in struck.node.done
    assert struck.events() == [("kill supervisor", True), ("kill server", False)]


@pytest.mark.parametrize("code", [1, 2, -11])
def test_node_that_ends_by_itself_is_wrong_and_stays_away(strike, code: int) -> None:
    struck = strike()
    struck.node.end(code)
    struck.striker.look(1.0)
    assert struck.striker.ended == {"node1"} and "node1 ended by itself" in struck.striker.wrong[0]
    assert "alas" in struck.said[-1] and struck.node.done == []


def test_node_that_answers_sigterm_with_an_error_is_wrong_and_is_started_again(strike) -> None:
    struck = strike(Event(1.0, "node1", "restart", 0.0))
    struck.striker.look(1.0)
    struck.node.end(1)
    struck.striker.look(2.0)
    assert "after SIGTERM with exit code 1" in struck.striker.wrong[0] and struck.node.done[-1] == "start"
