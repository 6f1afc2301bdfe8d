"""The experiment of killed servers and workers: what it kills, and its figures against numbers made by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from experiments.harness.cluster import SERVER_MODULE, server_process
from experiments.harness.experiment import Size
from experiments.killed_servers import EXPERIMENT, STEPS, conclude, stood_still
from p2pdl.errors import ProcessDied
from tests.processes import wait_until


def line(seconds: float, step: int) -> dict[str, Any]:
    return {"seconds": seconds, "step": step}


def test_standing_still_is_the_longest_time_between_two_steps() -> None:
    lines = [line(0.5, 0), line(1.0, 4), line(2.0, 9), line(3.0, 9), line(5.5, 9), line(6.0, 10), line(6.5, 14)]
    assert stood_still(lines) == 4.0
    assert stood_still(lines[:1]) == stood_still([]) == 0.0


def found(accuracy: float = 0.97, still: float = 3.0, *steps: int) -> dict[str, Any]:
    done = steps or (STEPS[Size.SMALL],) * 4
    nodes = {f"node{number}": {"summary": {"steps": each}} for number, each in enumerate(done, 1)}
    return {"accuracy": accuracy, "stood_still": still, "seconds": 61.0, "nodes": nodes}


def verdicts(name: str, figures: dict[str, Any]) -> list[bool | None]:
    """Of a case: accuracy, standing still, steps."""
    title = {"bsp-worker": "bsp, kill -9 of a worker: ", "bsp-server": "bsp, kill -9 of the server: "}[name]
    return [one.holds for one in conclude(Size.SMALL, {name: figures}).promises if one.what.startswith(title)]


def test_a_worker_that_was_killed_need_not_have_done_its_steps_but_the_others_have_to() -> None:
    full = STEPS[Size.SMALL]
    assert verdicts("bsp-worker", found(0.97, 3.0, full, full, full, 300)) == [True, True, True]
    assert verdicts("bsp-server", found(0.97, 3.0, full, full, full, 300)) == [True, True, False]
    assert verdicts("bsp-worker", found(0.964, 15.1)) == [False, False, True]
    assert verdicts("bsp-server", found()) == [True, True, True]


def test_a_worker_that_left_nothing_has_done_no_step() -> None:
    figures = found()
    figures["nodes"]["node4"]["summary"] = {}
    assert verdicts("bsp-worker", figures)[2] is True
    assert conclude(Size.SMALL, {"bsp-worker": figures}).tables[0].rows[0][4] == "704 704 704 0"


def test_each_policy_loses_a_worker_and_its_server_at_half() -> None:
    cases = {case.name: case.settings for case in EXPERIMENT.cases(Size.SMALL)}
    assert len(cases) == 8
    assert cases["adsp-worker"]["killed"] == {"node4": 352} and not cases["adsp-worker"]["struck"]
    assert cases["adsp-server"]["struck"] == {"server1": 352} and not cases["adsp-server"]["killed"]


def test_the_process_that_serves_is_told_from_the_nodes_other_children() -> None:
    program = (
        "import subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        f"server = subprocess.Popen([sys.executable, '-c', 'input()', {SERVER_MODULE!r}], stdin=subprocess.PIPE)\n"
        "print(server.pid, flush=True)\n"
        "input()\n"
        "server.kill(), server.wait()\n"
        "print('gone', flush=True)\n"
        "input()\n"
        "other.kill(), other.wait()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin is not None and node.stdout is not None
        server = int(node.stdout.readline())
        # Until it has become the program that it was started as.
        assert wait_until(lambda: _is(node.pid, server), 10.0)
        node.stdin.write("\n")
        node.stdin.flush()
        assert node.stdout.readline() == "gone\n"
        with pytest.raises(ProcessDied, match="no server process"):
            server_process(node.pid)
        node.communicate("\n")


def _is(node: int, server: int) -> bool:
    try:
        return server_process(node) == server
    except ProcessDied:
        return False
