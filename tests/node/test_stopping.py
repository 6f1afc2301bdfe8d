"""A stop in each phase of a run: exit 0 within the grace time, and the next start goes on where this one was."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from p2pdl.node.stopping import GRACE_SECONDS
from tests.node.clusters import START_SECONDS, Lab, NodeProcess, make_lab, node
from tests.processes import wait_until

ENDLESS = {"steps": 10_000_000, "batch_size": 32}
PATIENT = {"start_wait": 300.0, "linger": 300.0, "timeout": 300.0, "request_timeout": 300.0}
"""Whatever a node waits for here, it waits for much longer than it has time to stop."""

STOP_SECONDS = GRACE_SECONDS + 60.0
"""The grace time, and what a busy machine adds to it."""

METRICS = {"interval": 0.1}


@contextlib.contextmanager
def silent(address: str) -> Iterator[None]:
    """A peer that takes connections and says nothing."""
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        yield


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stop(lab: Lab, started: NodeProcess, asks: Callable[[], bool], number: int = signal.SIGTERM) -> dict[str, object]:
    """Wait for a moment, stop the node then, and look at what it has left; its summary."""
    assert wait_until(asks, START_SECONDS), started.said()
    started.signal(number)
    asked = time.monotonic()
    assert started.wait(STOP_SECONDS) == 0
    print(f"stopped after {time.monotonic() - asked:.2f} s")
    said = started.said()
    # It has ended by itself: nothing was cut short.
    assert "did not stop within" not in said and "Traceback" not in lab.log("node1")
    assert wait_until(lambda: lab.port_is_free("node1"), 10.0)
    return lab.summary("node1")


def is_in(lab: Lab, state: str) -> Callable[[], bool]:
    """Whether node1 is in a state."""
    return lambda: (status := lab.status("node1")) is not None and status.state == state


def test_stop_while_the_trainer_starts(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS)
    with node(lab, "node1") as started:
        # A terminal that is closed stops a node as SIGTERM does.
        summary = stop(lab, started, lambda: "trainer" in started.children(), signal.SIGHUP)
    assert (summary["state"], summary["steps"]) == ("stopped", 0)
    # Nothing was trained, so the next start begins.
    assert lab.checkpoints("node1") == {}


@pytest.mark.slow
def test_stop_while_others_are_waited_for_at_the_start(tmp_path):
    lab = make_lab(tmp_path, 2, train=ENDLESS, gossip=PATIENT)
    with node(lab, "node1") as started, node(lab, "node2") as other:
        # As one whose model takes long to build: it is there, and not ready.
        assert wait_until(lambda: "trainer" in other.children(), START_SECONDS)
        trainer = other.children()["trainer"]
        with stopped(trainer):
            summary = stop(lab, started, is_in(lab, "ready"))
    assert (summary["state"], summary["steps"]) == ("stopped", 0)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [True, False])
def test_stop_in_the_midst_of_a_pull(tmp_path, overlap):
    lab = make_lab(
        tmp_path, 2, train=ENDLESS, gossip={**PATIENT, "start_wait": 0.0, "overlap": overlap}, metrics=METRICS
    )
    with silent(lab.addresses["node2"]), node(lab, "node1") as started:
        summary = stop(lab, started, is_in(lab, "training"))
    assert summary["state"] == "stopped" and summary["steps"] > 0 and summary["merges"] == 0
    assert max(lab.checkpoints("node1")) == summary["steps"]


@pytest.mark.slow
def test_stop_while_others_are_waited_for_at_the_end(tmp_path):
    lab = make_lab(tmp_path, 2, train={"steps": 200, "batch_size": 32}, gossip={**PATIENT, "start_wait": 0.0})
    with node(lab, "node1") as started, node(lab, "node2", "--set", "train.steps=10000000") as other:
        assert wait_until(lambda: lab.has_reached("node2", 1), START_SECONDS)
        summary = stop(lab, started, is_in(lab, "finished"))
        other.signal(signal.SIGTERM)
        assert other.wait() == 0
    # Its steps are done, and the average is of those that could be had.
    assert (summary["state"], summary["steps"]) == ("done", 200)
    assert summary["final_merge"]["nodes"] == ["node1"]
    assert max(lab.checkpoints("node1")) == 200


@pytest.mark.slow
def test_stop_in_the_midst_of_a_save(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS, checkpoint={"every": 0.5}, metrics=METRICS)
    with node(lab, "node1", P2PDL_FAILPOINTS="checkpoint.before-sync=sleep:1") as started:
        summary = stop(lab, started, lambda: any(lab.checkpoint_folder("node1").glob(".*tmp*")))
    assert summary["state"] == "stopped" and max(lab.checkpoints("node1")) == summary["steps"]
    assert not any(lab.checkpoint_folder("node1").glob(".*tmp*"))
