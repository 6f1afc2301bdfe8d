"""Runs in lock-step as cases: against plain training, against an exchange in numpy, and twice the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from experiments.harness.lockstep_run import LockstepRun, lockstep_case, train
from experiments.lockstep import LocalModel, LockStep
from p2pdl.config import load
from p2pdl.node.training_settings import preparation_settings
from p2pdl.training.evaluate import evaluate
from p2pdl.training.preparation import Preparation
from tests.experiments.desk import Desk

TINY: dict[str, Any] = {"model": {"name": "mlp", "width": 0.125}, "train": {"steps": 9, "batch_size": 16}}


def run(folder: Path, nodes: int, **sections: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return train(Desk(folder), LockstepRun({**TINY, **sections}, "digits", nodes, look_every=4, samples=200))


def test_one_machine_is_plain_training(tmp_path: Path) -> None:
    found = run(tmp_path, 1, strategy="single")
    parts = Preparation(preparation_settings(load(tmp_path / "peers.yaml", ()), "node1"))
    for step in range(9):
        inputs, labels = parts.batches.batch(step)
        parts.step(tf.constant(inputs), tf.constant(labels))
    plain = evaluate(parts.model, *parts.test_set, parts.loss, 200)
    assert found["accuracy"] == pytest.approx(plain.accuracy) and found["nodes"] == [plain.accuracy]
    assert found["looks"]["step"] == [4, 8, 9] and found["looks"]["loss"][-1] == pytest.approx(plain.loss, rel=1e-4)
    assert found["nbytes"] == 0 and found["kept"] == pytest.approx(parts.density())


def test_lock_step_is_the_exchange_written_down_in_numpy(tmp_path: Path) -> None:
    length = {"steps": 8, "batch_size": 16}
    found = run(tmp_path, 2, train=length, gossip={"topology": "ring", "merge": "mean", "exchange_every": 2})
    configuration = load(tmp_path / "peers.yaml", ())
    names = configuration.names
    trained = [LocalModel(Preparation(preparation_settings(configuration, name))) for name in names]
    vectors = [model.reset() for model in trained]
    inbox: list[np.ndarray] | None = None
    for exchange in range(4):
        vectors = [model.train(vector, 2 * exchange, 2)[0] for model, vector in zip(trained, vectors, strict=True)]
        if inbox is not None:
            vectors = [vector + np.float32(0.5) * other for vector, other in zip(vectors, inbox, strict=True)]
        inbox = [vectors[1] - vectors[0], vectors[0] - vectors[1]]
    consensus = np.mean(vectors, axis=0)
    assert found["looks"]["step"] == [4, 8]
    assert found["accuracy"] == trained[0].test(consensus, 200).accuracy
    apart = np.stack(vectors) - consensus
    assert found["looks"]["distance"][-1] == pytest.approx(float(np.sqrt(np.mean(np.square(apart)))), rel=1e-3)


@pytest.mark.parametrize("codec", ["float32", "int8", "top-k:0.05:int8", "mean-threshold:int8"])
def test_every_codec_exchanges_as_often(codec: str, tmp_path: Path) -> None:
    run(tmp_path, 2)
    configuration = load(tmp_path / "peers.yaml", ())
    models = [LocalModel(Preparation(preparation_settings(configuration, name))) for name in configuration.names]
    lock_step = LockStep(models, codec, steps=12, exchange_every=1, topology="random", merge="contribution", seed=1)
    *_, last = lock_step.run(look_every=12, samples=100)
    # The pull that is asked for after the last step comes too late.
    assert [node.merges for node in lock_step.cluster.nodes.values()] == [11, 11] and 0 < last.accuracy <= 1
    assert [dict(node.failures) for node in lock_step.cluster.nodes.values()] == [{}, {}]


def test_the_learning_rate_follows_its_schedule(tmp_path: Path) -> None:
    moved = {}
    for schedule in ("constant", "linear"):
        optimizer = {"name": "sgd", "learning_rate": 0.1, "schedule": schedule, "arguments": {}}
        length = {"steps": 4, "batch_size": 16, "optimizer": optimizer}
        run(tmp_path / schedule, 1, strategy="single", compress={"mask": "none"}, train=length)
        configuration = load(tmp_path / schedule / "peers.yaml", ())
        model = LocalModel(Preparation(preparation_settings(configuration, "node1")))
        start = model.reset()
        moved[schedule] = [model.train(start, step, 1)[0] - start for step in range(4)]
    for step, (constant, linear) in enumerate(zip(moved["constant"], moved["linear"], strict=True)):
        np.testing.assert_allclose(linear, (1 - step / 4) * constant, atol=1e-6)
        assert np.abs(constant).max() > 1e-3


def test_nodes_that_never_exchange_are_where_their_own_data_takes_them(tmp_path: Path) -> None:
    found = run(tmp_path, 3, strategy="single", compress={"mask": "none"})
    assert len(found["nodes"]) == 3 and found["accuracy"] == pytest.approx(sorted(found["nodes"])[1])
    assert found["kept"] is None and found["looks"]["distance"][-1] > 0


def test_a_run_can_be_repeated_and_a_codec_changes_its_bytes_only(tmp_path: Path) -> None:
    once = run(tmp_path, 2)
    assert run(tmp_path, 2) == once
    few = run(tmp_path, 2, compress={"codec": "int8"})
    assert 0.2 < few["nbytes"] / once["nbytes"] < 0.5
    assert few["steps"] == once["steps"] == 9 and len(once["nodes"]) == 2
    together, apart = once["looks"]["distance"][-1], run(tmp_path, 2, strategy="single")["looks"]["distance"][-1]
    assert together < apart


def test_a_case_is_what_decides_it_and_says_how_far_it_is(tmp_path: Path) -> None:
    job = LockstepRun(TINY, "digits", 2, look_every=5, samples=100)
    case = lockstep_case("tiny", "Tiny", job, 0.1)
    assert json.loads(json.dumps(case.settings))["sections"] == TINY and not case.needs()
    desk = Desk(tmp_path)
    case.work(desk)
    assert desk.shares == [0.0, 5 / 9, 1.0] and not desk.facts
