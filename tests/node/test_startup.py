"""Mistakes that end a node before any training: one clear message, exit 2, nothing left behind."""

from __future__ import annotations

import socket

import pytest

from tests.node.clusters import make_lab, node


def fails(lab, *arguments: str) -> str:
    with node(lab, "node1", *arguments) as started:
        assert started.wait() == 2
        said = started.said()
    assert "Traceback" not in said
    return said


def test_a_port_in_use_is_named_before_anything_starts(tmp_path):
    lab = make_lab(tmp_path, 1)
    host, port = lab.addresses["node1"].split(":")
    with socket.create_server((host, int(port))):
        said = fails(lab)
    assert f"node 'node1' cannot listen on {lab.addresses['node1']}" in said and "stop the other program" in said


def test_missing_data_are_named_with_their_path(tmp_path):
    said = fails(make_lab(tmp_path, 1, data={"source": "npz:nowhere.npz"}))
    assert "nowhere.npz" in said and "->" in said


def test_a_run_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    said = fails(make_lab(tmp_path, 1))
    assert "run directory" in said and "cluster.runs" in said


def test_a_model_function_that_raises_is_named_with_its_line(tmp_path):
    (tmp_path / "nets.py").write_text("def broken():\n    raise KeyError('depth')\n")
    said = fails(make_lab(tmp_path, 1, model={"name": "nets:broken"}))
    assert "nets" in said and "KeyError" in said and "2" in said


@pytest.mark.parametrize("optimizer", [{"name": "sdg"}, {"name": "sgd", "arguments": {"momentun": 0.9}}])
def test_an_optimizer_that_keras_does_not_make_is_refused(tmp_path, optimizer):
    said = fails(make_lab(tmp_path, 1, train={"optimizer": optimizer}))
    assert "train.optimizer" in said


def test_every_mistake_of_the_file_is_listed_at_once(tmp_path):
    said = fails(make_lab(tmp_path, 1, train={"batch_size": 0}, gossip={"topologie": "ring"}))
    assert "batch_size" in said and "topologie" in said and "topology" in said
