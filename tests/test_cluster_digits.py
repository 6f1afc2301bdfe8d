"""Whole clusters as people run them: `p2pdl up` on scikit-learn's digits, to the end and not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdl.config import load
from p2pdl.node.cluster_status import ask_nodes
from tests.pretended_clusters import write_configuration
from tests.processes import ROOT, wait_until

START_SECONDS = 60.0
"""Far more than two trainers need to load TensorFlow, so that a busy machine is no failure."""

STOP_SECONDS = 30.0


def score(file: Path, saved: Path) -> float:
    """The test accuracy of a saved model."""
    import keras

    from p2pdl.node.training_settings import preparation_settings
    from p2pdl.training.evaluate import evaluate
    from p2pdl.training.preparation import Preparation

    parts = Preparation(preparation_settings(load(file), "node1"))
    model = keras.models.load_model(saved, compile=False)
    return evaluate(model, *parts.evaluation_sets()["test"], parts.loss, 10_000).accuracy


@contextlib.contextmanager
def up(file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `p2pdl up`; whatever a test does, nothing of it is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pdl", "up", "--config", str(file), "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        assert wait_until(lambda: not processes_of(file.parent), STOP_SECONDS), processes_of(file.parent)


def processes_of(folder: Path) -> dict[int, str]:
    """Every process whose command line names something in the folder."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command and int(name) != os.getpid():
                found[int(name)] = command
    return found


def wait_for_training(file: Path) -> None:
    """Until every node has done a step."""
    cluster = load(file)
    addresses = {entry.name: str(entry.address) for entry in cluster.nodes}

    def all_train() -> bool:
        nodes = ask_nodes(cluster.cluster.name, addresses, timeout=1.0)
        return all(node.status is not None and node.status.step > 0 for node in nodes)

    assert wait_until(all_train, START_SECONDS)


def test_two_nodes_train_digits_to_a_consensus(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=2)
    with up(file, "--set", "train.passes=20") as process:
        output, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    summary = json.loads(output)
    folder = tmp_path / "runs" / "lab"
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["strategy"] == "gossip"
    assert summary["consensus"]["nodes"] == ["node1", "node2"]
    assert summary["consensus"]["test_accuracy"] > 0.9
    for node in summary["nodes"]:
        assert node["state"] == "done"
        assert node["steps"] >= 20 * 716 // 64
        assert node["merges"] > 0
        assert node["bytes_received"] > 0
        assert node["before_final_merge"]["test_accuracy"] > 0.85
        assert node["final_merge"]["missing"] == {}
        # All of them end with the same model.
        assert node["test_accuracy"] == summary["consensus"]["test_accuracy"]
        assert (folder / node["node"] / "model.keras").exists()
        lines = (folder / node["node"] / "metrics.jsonl").read_text().splitlines()
        assert all(json.loads(line)["node"] == node["node"] for line in lines)
    assert score(file, folder / "model.keras") == pytest.approx(summary["consensus"]["test_accuracy"], abs=1e-6)


def test_ctrl_c_stops_a_cluster_in_training_and_leaves_its_summaries(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=2)
    with up(file, "--set", "train.steps=1000000") as process:
        wait_for_training(file)
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=STOP_SECONDS)
        assert processes_of(tmp_path) == {}
    assert process.returncode == 130
    assert "Traceback" not in said
    summary = json.loads(output)
    assert summary["consensus"] is None
    assert [node["state"] for node in summary["nodes"]] == ["stopped", "stopped"]
    assert all(node["steps"] > 0 for node in summary["nodes"])
    assert all((tmp_path / "runs" / "lab" / name / "model.keras").exists() for name in ("node1", "node2"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "interrupted twice"])
def test_cluster_that_ends_at_once_leaves_no_process(tmp_path: Path, how: str) -> None:
    file = write_configuration(tmp_path, nodes=2)
    with up(file, "--set", "train.steps=1000000") as process:
        wait_for_training(file)
        if how == "killed":
            process.kill()
        else:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            while "stopping all nodes" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=STOP_SECONDS)
        assert process.returncode == (-signal.SIGKILL if how == "killed" else 130)
        assert wait_until(lambda: not processes_of(tmp_path), STOP_SECONDS), processes_of(tmp_path)


def test_single_node_trains_alone_and_prints_its_summary(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=1)
    command = [sys.executable, "-m", "p2pdl", "node", "--config", str(file), "--json"]
    done = subprocess.run(
        [*command, "--set", "strategy=single", "--set", "train.passes=5"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == json.loads((tmp_path / "runs" / "lab" / "node1" / "summary.json").read_text())
    assert (summary["strategy"], summary["state"], summary["merges"]) == ("single", "done", 0)
    assert summary["test_accuracy"] > 0.85
    assert processes_of(tmp_path) == {}
