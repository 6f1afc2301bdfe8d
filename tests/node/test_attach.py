"""`p2pdl.Gossip` in scripts of the user's own: copies of one script become nodes and end with one model."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest

from p2pdl.config import load
from p2pdl.errors import ProcessDied, StartupError
from p2pdl.node import server_keeper
from p2pdl.node.attach import AttachedNode
from p2pdl.node.choice import claim_node
from tests.node.clusters import START_SECONDS, make_lab
from tests.processes import ROOT

SCRIPT = """
import json, sys
import keras, numpy as np
from sklearn.datasets import load_digits
import p2pdl

part = int(sys.argv[1])
keras.utils.set_random_seed(part + 1)
keras.layers.Dense(3)  # automatic names of the layers below differ between the copies
if part:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, activation="relu"),
                          keras.layers.BatchNormalization(), keras.layers.Dense(10)])
model.compile(optimizer=p2pdl.MeanThreshold(keras.optimizers.SGD(0.05, momentum=0.9)),
              loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
              steps_per_execution=int(sys.argv[3]))
history = model.fit(x[part:1500:2], y[part:1500:2], batch_size=32, epochs=30, verbose=0,
                    validation_data=(x[1500:], y[1500:]), validation_freq=10,
                    callbacks=[p2pdl.Gossip(sys.argv[2])])
_, accuracy = model.evaluate(x[1500:], y[1500:], verbose=0)
print(json.dumps({"accuracy": accuracy, "sum": float(sum(np.abs(w.numpy()).sum(dtype="f8") for w in model.weights)),
                  "merges": history.history["p2pdl/merges"][-1]}))
"""


def test_a_node_that_cannot_be_attached_gives_its_name_back(tmp_path):
    lab = make_lab(tmp_path, 1)
    configuration = load(lab.file)
    locked = load(lab.file, ("security.mode=curve",))
    for _ in range(2):
        with pytest.raises(StartupError, match="needs keys"):
            AttachedNode(locked, "node1", None)
    claim_node(configuration, "node1").release()


def test_a_server_that_cannot_start_ends_a_fit_before_its_first_step(tmp_path, monkeypatch):
    configuration = load(make_lab(tmp_path, 1).file)

    def refuse(*arguments: object) -> None:
        raise ProcessDied("the server process of node1 did not start to listen")

    monkeypatch.setattr(server_keeper, "start_server", refuse)
    for _ in range(2):
        with pytest.raises(ProcessDied, match="did not start to listen"):
            AttachedNode(configuration, "node1", None)


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_two_copies_of_a_script_end_with_the_same_model(tmp_path, steps_per_execution):
    lab = make_lab(tmp_path, 2, gossip={"linger": 60.0}, train={"profile": True})
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with contextlib.ExitStack() as stack:
        copies = []
        for part in (0, 1):
            log = stack.enter_context((tmp_path / f"errors-{part}").open("wb"))
            copy = subprocess.Popen(
                [sys.executable, str(script), str(part), str(lab.file), str(steps_per_execution)],
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
                cwd=tmp_path,
            )
            copies.append(stack.enter_context(copy))
            stack.callback(copy.kill)
        results = []
        for part, copy in enumerate(copies):
            output = copy.communicate(timeout=START_SECONDS)[0]
            assert copy.returncode == 0, (tmp_path / f"errors-{part}").read_text()
            results.append(json.loads(output.splitlines()[-1]))
    assert results[0]["sum"] == results[1]["sum"]
    assert results[0]["accuracy"] == results[1]["accuracy"] > 0.88
    assert all(result["merges"] > 10 for result in results)
    summaries = [lab.summary(name) for name in ("node1", "node2")]
    assert [summary["final_merge"]["nodes"] for summary in summaries] == [["node1", "node2"]] * 2
    # 750 samples in batches of 32, the last of a pass shorter: every sample of 30 passes is counted.
    assert [summary["samples"] for summary in summaries] == [22500, 22500]
    for name, summary in zip(("node1", "node2"), summaries, strict=True):
        events = json.loads((tmp_path / "runs" / "lab" / name / "timeline.json").read_text())
        spans = {kind: [event for event in events if event["name"] == kind] for kind in ("compute", "evaluate")}
        assert [event["args"]["step"] for event in spans["compute"]] == list(
            range(steps_per_execution, 721, steps_per_execution)
        )
        assert len(spans["evaluate"]) == 3
        seconds = 1e-6 * sum(event["dur"] for event in spans["compute"])
        assert summary["compute_seconds"] == pytest.approx(seconds, rel=0.01)
