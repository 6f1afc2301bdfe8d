"""Parameter servers as real processes: workers end with one model, and kills of either side cost no run."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.node.clusters import START_SECONDS, Lab, NodeProcess, make_lab, node
from tests.processes import free_port, is_running, wait_until

LEASE = 2.0


def make_parameter_lab(folder: Path, workers: int, server: dict[str, Any], **settings: Any) -> Lab:
    """A lab of `node1`, `node2`, ... that work for `server1`."""
    lab = make_lab(folder, workers, strategy="parameter-server", server={"lease": LEASE, **server}, **settings)
    address = f"127.0.0.1:{free_port()}"
    entry = f'{{"name": "server1", "address": "{address}", "role": "server"}}'
    lab.file.write_text(lab.file.read_text().replace('"nodes": [', f'"nodes": [{entry}, '))
    lab.addresses["server1"] = address
    return lab


def started(stack: contextlib.ExitStack, lab: Lab) -> dict[str, NodeProcess]:
    """Every node of the lab, running."""
    return {name: stack.enter_context(node(lab, name)) for name in lab.addresses}


def pushes(lab: Lab) -> int:
    """How often the workers have pushed, as the server says."""
    status = lab.status("server1")
    return int(status.figures["pushes"]) if status is not None else 0


def test_workers_end_with_the_servers_model(tmp_path: Path) -> None:
    lab = make_parameter_lab(tmp_path, 2, {"policy": "bsp"}, train={"passes": 6})
    with contextlib.ExitStack() as stack:
        nodes = started(stack, lab)
        assert {name: it.wait() for name, it in nodes.items()} == dict.fromkeys(nodes, 0)
    server, first, second = (lab.summary(name) for name in ("server1", "node1", "node2"))
    assert server["state"] == "done" and server["finished"] == ["node1", "node2"]
    assert server["pushes"] == first["steps"] + second["steps"]
    # One version to begin with, and one for each iteration of both.
    assert server["steps"] == 1 + max(first["steps"], second["steps"])
    assert first["test_loss"] == second["test_loss"] and first["test_accuracy"] > 0.85
    assert all(lab.port_is_free(name) for name in lab.addresses)


@pytest.mark.slow
def test_workers_that_exchange_one_range_after_another_end_with_the_servers_model(tmp_path: Path) -> None:
    server = {"policy": "ssp", "range": "1"}
    train = {"passes": 40, "optimizer": {"name": "sgd", "learning_rate": 0.2, "arguments": {}}}
    lab = make_parameter_lab(tmp_path, 2, server, train=train, model={"name": "mlp"})
    with contextlib.ExitStack() as stack:
        nodes = started(stack, lab)
        assert {name: it.wait() for name, it in nodes.items()} == dict.fromkeys(nodes, 0)
    server, first, second = (lab.summary(name) for name in ("server1", "node1", "node2"))
    assert server["state"] == "done" and server["finished"] == ["node1", "node2"]
    # After the last step each pushes what has come together for the other ranges.
    assert server["pushes"] == first["steps"] + second["steps"] + 2
    assert server["samples"] == first["samples"] + second["samples"]
    # Each weight has moved once in three steps: less far than without ranges, and a long way from the 0.1 of chance.
    assert first["test_loss"] == second["test_loss"] and first["test_accuracy"] > 0.5
    shard = 4 << 18
    assert server["dense_bytes"] > 2 * shard
    assert server["ingress_bytes"] < server["pushes"] * 1.01 * shard + 2 * server["dense_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["bsp", "ssp", "asp", "adsp"])
def test_killed_worker_is_waited_for_no_longer_than_its_lease(tmp_path: Path, policy: str) -> None:
    lab = make_parameter_lab(tmp_path, 2, {"policy": policy, "check_period": 0.2}, train={"steps": 600})
    with contextlib.ExitStack() as stack:
        nodes = started(stack, lab)
        assert wait_until(lambda: pushes(lab) >= (10 if policy == "adsp" else 100), START_SECONDS)
        nodes["node2"].signal(signal.SIGKILL)
        assert nodes["node1"].wait() == nodes["server1"].wait() == 0
    assert lab.summary("node1")["steps"] == 600
    assert lab.summary("server1")["finished"] == ["node1"] and lab.summary("server1")["lapsed"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["bsp", "ssp", "asp", "adsp"])
def test_killed_server_goes_on_from_its_checkpoint_and_the_workers_come_back(tmp_path: Path, policy: str) -> None:
    lab = make_parameter_lab(
        tmp_path,
        2,
        {"policy": policy, "check_period": 0.2},
        train={"steps": 600},
        checkpoint={"every": 0.5},
        gossip={"request_timeout": 1.0},
    )
    with contextlib.ExitStack() as stack:
        nodes = started(stack, lab)
        assert wait_until(lambda: pushes(lab) >= (10 if policy == "adsp" else 100), START_SECONDS)
        assert wait_until(lambda: bool(lab.checkpoints("server1")), START_SECONDS)
        [process] = nodes["server1"].children().values()
        os.kill(process, signal.SIGKILL)
        assert wait_until(lambda: not is_running(process), START_SECONDS)
        assert {name: it.wait() for name, it in nodes.items()} == dict.fromkeys(nodes, 0)
    assert "going on from step-" in lab.log("server1")
    assert lab.summary("node1")["steps"] == lab.summary("node2")["steps"] == 600
    assert lab.summary("server1")["finished"] == ["node1", "node2"]
    assert lab.summary("node1")["test_accuracy"] > 0.85


def test_a_worker_that_is_stopped_while_it_waits_at_its_end_keeps_the_weights_that_it_has(tmp_path: Path) -> None:
    lab = make_parameter_lab(tmp_path, 2, {"policy": "asp"}, train={"steps": 50})
    endless = ("--set", "train.steps=10000000")
    with node(lab, "server1") as server, node(lab, "node2", *endless) as other, node(lab, "node1") as worker:
        assert wait_until(
            lambda: (status := lab.status("node1")) is not None and status.state == "finished", START_SECONDS
        ), worker.said()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        for each in (other, server):
            each.signal(signal.SIGTERM)
            assert each.wait() == 0
    summary = lab.summary("node1")
    assert (summary["state"], summary["steps"], summary["final_merge"]) == ("done", 50, None)
    assert "stopped before the servers' final weights had come" in lab.log("node1")
    assert (lab.folder / "runs" / "lab" / "node1" / "model.keras").exists()
