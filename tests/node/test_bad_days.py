"""What a node survives, for real: dead, silent, lying and alien peers; its own processes killed; signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zmq

from p2pdl.config import load
from p2pdl.spec import WeightSpec
from p2pdl.store import memory
from p2pdl.store.writer import StoreWriter
from tests.node.clusters import START_SECONDS, make_lab, node
from tests.processes import is_running, server, wait_until

QUICK = {"start_wait": 1.0, "linger": 2.0, "request_timeout": 0.5}
ENDLESS = {"steps": 10_000_000}
FREQUENT = {"checkpoint": {"every": 0.2}, "metrics": {"interval": 0.1}}


@contextlib.contextmanager
def serving(address: str, spec: WeightSpec, value: float, cluster: str = "lab") -> Iterator[None]:
    """A peer that serves a constant vector."""
    store = memory.create()
    writer = StoreWriter(store, spec)
    # A node of ours publishes nothing that is not finite.
    with mock.patch("p2pdl.store.writer.is_finite", return_value=True):
        writer.publish(lambda vector: vector.fill(value), step=5, samples=320, loss=0.5)
    try:
        with server(store, address=address, cluster=cluster):
            yield
    finally:
        writer.close()
        os.close(store)


@contextlib.contextmanager
def babbling(address: str) -> Iterator[None]:
    """A REP server that answers everything with bytes that mean nothing."""
    stopping = threading.Event()

    def answer() -> None:
        context = zmq.Context()
        rep = context.socket(zmq.REP)
        rep.linger = 0
        rep.bind(f"tcp://{address}")
        while not stopping.is_set():
            if rep.poll(50):
                rep.recv_multipart()
                rep.send_multipart([b"\x93nonsense", b"x" * 100])
        rep.close()
        context.term()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@contextlib.contextmanager
def silent(address: str) -> Iterator[None]:
    """A TCP listener that accepts and says nothing."""
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        yield


def spec_of_the_model(file: Path) -> WeightSpec:
    """What a node of such a laboratory publishes."""
    from p2pdl.node.training_settings import preparation_settings
    from p2pdl.training.preparation import Preparation
    from p2pdl.training.weights import spec_of

    return spec_of(Preparation(preparation_settings(load(file), "node1")).model)


def test_a_node_among_peers_that_are_down_silent_alien_or_diverged_does_all_its_steps(tmp_path):
    lab = make_lab(tmp_path, 7, train={"steps": 6000, "batch_size": 32}, gossip=QUICK)
    at = lab.addresses
    other_model = WeightSpec.layout([("dense/kernel", (3, 3), "float32", True)])
    with contextlib.ExitStack() as stack:
        stack.enter_context(silent(at["node3"]))
        stack.enter_context(babbling(at["node4"]))
        stack.enter_context(serving(at["node5"], other_model, 0.0))
        # All are there before the first exchange: who is found down is asked again seconds later.
        spec = spec_of_the_model(lab.file)
        stack.enter_context(serving(at["node6"], spec, 0.0, cluster="elsewhere"))
        stack.enter_context(serving(at["node7"], spec, float("nan")))
        started = stack.enter_context(node(lab, "node1"))
        assert started.wait() == 0
        said = started.said()
    summary = lab.summary("node1")
    assert summary["steps"] == 6000 and summary["state"] == "done"
    assert summary["merges"] == 0 and summary["test_accuracy"] > 0.9
    assert set(summary["exchange_failures"]) >= {"timeout", "protocol-error", "model", "cluster", "not-finite"}
    assert summary["final_merge"]["nodes"] == ["node1"]
    assert set(summary["final_merge"]["missing"]) == {f"node{n}" for n in range(2, 8)}
    assert "skipped node5: trains another model: variable 0 is mlp/dense/kernel float32[64x51] here" in said
    assert "and dense/kernel float32[3x3] there" in said
    assert "skipped node7: its weights are not finite" in said
    assert "skipped node6: refused: this is cluster 'elsewhere', not 'lab'" in said
    assert "skipped node4: " in said and "not a valid msgpack map" in said
    assert "Traceback" not in said


def test_a_killed_server_is_started_again_and_a_killed_trainer_goes_on_from_its_checkpoint(tmp_path):
    lab = make_lab(tmp_path, 2, train={"steps": 4000, "batch_size": 32}, gossip=QUICK, **FREQUENT)
    with node(lab, "node1") as started:
        assert wait_until(lambda: lab.has_reached("node1", 100) and lab.checkpoints("node1"), START_SECONDS)
        before = lab.status("node1")
        assert before is not None
        os.kill(started.children()["server"], signal.SIGKILL)

        def is_back() -> bool:
            status = lab.status("node1")
            return status is not None and status.figures["server_starts"] == 2 and status.step > before.step

        assert wait_until(is_back, 20.0)
        after = lab.status("node1")
        assert after is not None and after.incarnation == before.incarnation
        os.kill(started.children()["trainer"], signal.SIGKILL)

        def is_without_trainer() -> bool:
            status = lab.status("node1")
            return status is not None and status.state == "starting" and status.age > 0.5

        # The server goes on answering, and says for how long it has heard nothing of the trainer.
        assert wait_until(is_without_trainer, 20.0)
        saved = max(lab.checkpoints("node1"))
        assert started.wait() == 0
        said = started.said()
    assert "the server process was lost (ended by SIGKILL); starting it again over the same weights" in said
    assert "the trainer ended by SIGKILL at step" in said and "starting it again from its last checkpoint" in said
    assert f"going on from step-{saved:09d}.ckpt, saved at step {saved}" in lab.log("node1")
    summary = lab.summary("node1")
    assert (summary["state"], summary["steps"]) == ("done", 4000)
    assert (summary["restarts"], summary["trainer_restarts"]) == (1, 1)
    assert summary["test_accuracy"] > 0.9


def test_a_supervisor_killed_takes_both_its_children_with_it(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS)
    with node(lab, None) as started:
        assert wait_until(lambda: lab.has_reached("node1", 1), START_SECONDS)
        children = started.children()
        assert set(children) == {"server", "trainer"}
        started.signal(signal.SIGKILL)
        started.wait()
        assert wait_until(lambda: not any(is_running(pid) for pid in children.values()), 10.0)
    assert wait_until(lambda: lab.port_is_free("node1"), 10.0)


def test_ctrl_c_once_finishes_the_step_and_leaves_a_summary_and_a_model(tmp_path):
    lab = make_lab(tmp_path, 2, train=ENDLESS, gossip=QUICK)
    with node(lab, "node2", "--json") as started:
        assert wait_until(lambda: lab.has_reached("node2", 10), START_SECONDS)
        started.signal(signal.SIGINT)
        assert started.wait(40.0) == 130
        said = started.said()
    summary = lab.summary("node2")
    assert summary["state"] == "stopped" and summary["steps"] >= 10
    assert (tmp_path / "runs" / "lab" / "node2" / "model.keras").exists()
    assert "stopping: finishing the step" in said
    assert json.loads(said[said.index("{\n") :])["steps"] == summary["steps"]


def test_ctrl_c_twice_ends_at_once_and_leaves_no_process_and_no_port(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS)
    with node(lab, "node1") as started:
        assert wait_until(lambda: lab.has_reached("node1", 1), START_SECONDS)
        children = started.children()
        # A trainer that cannot react at all: the second Ctrl-C must not wait for it.
        os.kill(children["trainer"], signal.SIGSTOP)
        started.signal(signal.SIGINT)
        assert wait_until(lambda: "Ctrl-C once more" in started.said(), 10.0)
        asked = time.monotonic()
        started.signal(signal.SIGINT)
        assert started.wait(20.0) == 130
        assert time.monotonic() - asked < 10.0
    assert not any(is_running(pid) for pid in children.values())
    assert wait_until(lambda: lab.port_is_free("node1"), 10.0)


def test_a_node_that_dies_in_mid_run_costs_the_others_no_step_and_is_named_at_the_end(tmp_path):
    lab = make_lab(tmp_path, 3, train={"steps": 4000, "batch_size": 32}, gossip={**QUICK, "linger": 20.0})
    with node(lab, "node1") as first, node(lab, "node2") as second, node(lab, "node3") as third:
        assert wait_until(lambda: lab.has_reached("node3", 200), START_SECONDS)
        third.signal(signal.SIGKILL)
        assert first.wait() == 0 and second.wait() == 0
    for name in ("node1", "node2"):
        summary = lab.summary(name)
        assert summary["steps"] == 4000
        assert summary["final_merge"]["nodes"] == ["node1", "node2"]
        assert list(summary["final_merge"]["missing"]) == ["node3"]
        assert np.isfinite(summary["test_loss"]) and summary["test_accuracy"] > 0.9
    assert lab.summary("node1")["test_accuracy"] == lab.summary("node2")["test_accuracy"]


@pytest.mark.slow
def test_a_peer_that_is_stopped_and_goes_on_costs_the_other_nothing(tmp_path):
    lab = make_lab(tmp_path, 2, train={"steps": 8000, "batch_size": 32}, gossip={**QUICK, "linger": 30.0})
    with node(lab, "node1") as first, node(lab, "node2") as second:
        assert wait_until(lambda: lab.has_reached("node2", 100) and lab.has_reached("node1", 100), START_SECONDS)
        stopped = [second.process.pid, *second.children().values()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        before = lab.status("node1")
        assert before is not None
        assert wait_until(lambda: lab.has_reached("node1", before.step + 1500), 60.0)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert first.wait() == 0 and second.wait() == 0
    assert lab.summary("node1")["exchange_failures"].get("timeout", 0) >= 1
    assert lab.summary("node1")["final_merge"]["nodes"] == ["node1", "node2"]


@pytest.mark.slow
def test_a_node_started_late_takes_a_peers_weights_and_catches_up(tmp_path):
    lab = make_lab(tmp_path, 2, train={"steps": 3000, "batch_size": 32}, gossip={**QUICK, "linger": 60.0})
    with node(lab, "node1") as first:
        assert wait_until(lambda: lab.has_reached("node1", 1200), START_SECONDS)
        with node(lab, "node2") as second:
            assert first.wait() == 0 and second.wait() == 0
    late = lab.summary("node2")
    assert late["adoptions"] == 1 and late["steps"] == 3000
    assert "took the weights of node1 whole" in lab.log("node2")
    assert late["test_accuracy"] == lab.summary("node1")["test_accuracy"] > 0.9
