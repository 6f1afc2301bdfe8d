"""Whether a start goes on with a run or begins a new one."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from p2pdl.config import Configuration
from p2pdl.errors import EXIT_USAGE, RunDirectoryUnusable, RunMismatch
from p2pdl.node.local_nodes import nodes_to_run
from p2pdl.node.resumption import open_node_folder, write_settings
from tests.pretended_clusters import configuration


def leave_run(cluster: Configuration, node: str, state: str | None, checkpoint: bool = True) -> Path:
    """What a run leaves in a node's folder."""
    folder = cluster.runs_folder / "lab" / node
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(cluster.to_json())
    if checkpoint:
        (folder / "checkpoints" / "step-000000007.ckpt").write_bytes(b"any")
    if state is not None:
        (folder / "summary.json").write_text(json.dumps({"state": state}))
    return folder


def test_settings_that_cannot_be_written_leave_those_of_the_run_as_they_were(tmp_path, monkeypatch):
    cluster = configuration(tmp_path)
    folder = leave_run(cluster, "node1", "stopped")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(RunDirectoryUnusable, match="No space left"):
        patched.setattr(os, "fsync", full)
        write_settings(folder, cluster)
    assert open_node_folder(cluster, "node1").resumes


@pytest.mark.parametrize("state", [None, "stopped", "failed"])
def test_run_that_has_not_ended_goes_on(tmp_path: Path, state: str | None) -> None:
    cluster = configuration(tmp_path)
    folder = leave_run(cluster, "node1", state)
    opened = open_node_folder(cluster, "node1")
    assert opened.resumes and opened.path == folder
    assert (folder / "checkpoints" / "step-000000007.ckpt").exists()
    assert not (folder / "summary.json").exists()


@pytest.mark.parametrize(
    "state, checkpoint, fresh", [("done", True, False), (None, False, False), ("stopped", True, True)]
)
def test_run_that_has_ended_or_is_not_wanted_is_kept_and_a_new_one_begins(
    tmp_path: Path, state: str | None, checkpoint: bool, fresh: bool
) -> None:
    cluster = configuration(tmp_path)
    folder = leave_run(cluster, "node1", state, checkpoint)
    opened = open_node_folder(cluster, "node1", fresh)
    assert not opened.resumes and list(opened.path.iterdir()) == []
    assert (folder.parent / "earlier" / "node1-1" / "config.json").exists()


def test_run_of_other_settings_is_refused_by_name_of_the_settings(tmp_path: Path) -> None:
    leave_run(configuration(tmp_path), "node1", "stopped")
    changed = configuration(tmp_path, more="model: {width: 0.5}\ntrain: {seed: 3, passes: 50}\n")
    with pytest.raises(RunMismatch) as caught:
        open_node_folder(changed, "node1")
    assert "model.width was 1.0 and is now 0.5; train.seed was 0 and is now 3" in caught.value.message
    assert "train.passes" not in caught.value.message
    assert "--fresh" in caught.value.remedy and caught.value.exit_code == EXIT_USAGE


def test_longer_training_and_another_learning_rate_go_on(tmp_path: Path) -> None:
    leave_run(configuration(tmp_path), "node1", "stopped")
    longer = configuration(tmp_path, more="train: {passes: 50, optimizer: {learning_rate: 0.01}}\n")
    assert open_node_folder(longer, "node1").resumes


@pytest.mark.parametrize("damage", ["", "{}", "\x00"])
def test_run_whose_settings_cannot_be_read_is_refused(tmp_path: Path, damage: str) -> None:
    cluster = configuration(tmp_path)
    folder = leave_run(cluster, "node1", None)
    (folder / "config.json").write_text(damage)
    with pytest.raises(RunMismatch, match="cannot be read"):
        open_node_folder(cluster, "node1")


def test_nodes_that_have_done_their_part_are_not_run_again_while_others_have_not(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=3)
    names = list(cluster.names)
    assert nodes_to_run(cluster, names, fresh=False) == names
    leave_run(cluster, "node1", "done")
    assert nodes_to_run(cluster, names, fresh=False) == names
    leave_run(cluster, "node2", "stopped")
    assert nodes_to_run(cluster, names, fresh=False) == ["node2", "node3"]
    assert nodes_to_run(cluster, names, fresh=True) == names
