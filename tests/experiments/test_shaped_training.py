"""The experiment over shaped links but for its processes: what it configures, and what it says where it cannot run."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest

from experiments import shaped_training
from experiments.shaped_cluster import progress
from p2pdl.config import load


def arguments(**changes: object) -> Namespace:
    chosen = {"model": "vgg19", "width": 1.0, "batch": 32, "steps": 40, "codec": "auto", "nodes": 4}
    return Namespace(**{**chosen, **changes})


@pytest.mark.parametrize("model, shape", [("mlp", (28, 28, 1)), ("vgg19", (32, 32, 3))])
def test_noise_has_the_shape_that_the_model_is_made_for(model, shape, tmp_path):
    path = shaped_training.write_noise(tmp_path, arguments(model=model, nodes=2))
    with np.load(path) as data:
        assert data["x_train"].shape == (2 * shaped_training.SAMPLES_A_NODE, *shape)
        assert data["x_train"].dtype == np.uint8
        assert set(data["y_train"]) == set(range(10))


def test_configuration_is_accepted_and_says_what_is_measured(tmp_path):
    sections = shaped_training.configured(arguments(), tmp_path / "noise.npz")
    nodes = [{"name": "node1", "address": "10.77.0.1:7101"}, {"name": "node2", "address": "10.77.0.2:7101"}]
    file = tmp_path / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "shaped"}, "nodes": nodes, **sections}))
    configuration = load(file, ())
    assert (configuration.train.steps, configuration.train.batch_size) == (40, 32)
    assert (configuration.gossip.exchange_every, configuration.gossip.overlap) == (1, True)
    assert (configuration.compress.codec, configuration.gossip.final_merge) == ("auto", False)


def test_machine_without_the_means_is_told_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["shaped_training", "--steps", "20"])
    assert shaped_training.main() == 2
    said = capsys.readouterr().err
    assert "not root" in said and "-> run it as root" in said


def test_progress_is_that_of_the_slowest_node(tmp_path):
    folders = {name: tmp_path / name for name in ("node1", "node2")}
    assert progress(folders) == "starting"
    for name, step in (("node1", 7), ("node2", 3)):
        folders[name].mkdir()
        line = {"step": step, "seconds_per_step": 0.25, "seconds_left": 65.0}
        (folders[name] / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert progress(folders) == "step 3, 0.25 s a step, 1:05 left"


def figures(ratio: float) -> dict[str, object]:
    node = {
        "node": "node1",
        "median_step_seconds": 0.1,
        "p90_step_seconds": 0.2,
        "publish_and_merge_seconds_per_step": 0.005,
        "wait_seconds": 0.0,
        "pulls": 9,
        "merges": 8,
        "busy": 1,
        "failures": {"timeout": 1},
        "bytes_received": 16_000_000,
        "links": {"node2": {"codecs": ["int8", "bfloat16"], "codec": "bfloat16", "reason": "fits"}},
    }
    rates = [{"mbit": 300.0, "ratio": ratio, "ratios": [ratio], "wait_seconds": 0.0}]
    runs = [{"round": 1, "mbit": mbit, "seconds": 61.0, "nodes": [node]} for mbit in (None, 300.0)]
    settings = {"nodes": 4, "model": "vgg19", "width": 1.0, "batch": 32, "steps": 40, "cores": 2, "load": 0.5}
    return {**settings, "rates": rates, "runs": runs}


@pytest.mark.parametrize("ratio, verdict", [(1.04, "holds"), (1.06, "does not hold")])
def test_table_ends_with_the_verdict(ratio, verdict, capsys):
    shaped_training.show(figures(ratio))
    said = capsys.readouterr().out
    assert "300 Mbit/s, round 1, 1:01 in all" in said
    assert "node1 from node2: int8 bfloat16, now bfloat16: fits" in said
    assert "2.00" in said
    assert said.rstrip().endswith(f"at most 1.05 and 0 s: {verdict}")
