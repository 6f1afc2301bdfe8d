"""Training with codecs in lock-step, in small: against the same exchange written down in numpy, and twice the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import codec_accuracy
from experiments.lockstep import LocalModel, LockStep
from p2pdl.config import load
from p2pdl.node.exchange_cost import codec_name
from p2pdl.node.training_run import preparation_settings
from p2pdl.training.preparation import Preparation

TINY = "--data digits --width 0.125 --batch 16 --steps 12 --look-every 5 --samples 100".split()
CODECS = ("float32", "int8", "top-k:0.05:int8", "mean-threshold:int8")


def models(folder: Path, words: Sequence[str]) -> list[LocalModel]:
    """The models of a command line."""
    configuration = codec_accuracy.configured(codec_accuracy.parse(list(words)), folder)
    return [LocalModel(Preparation(preparation_settings(configuration, name))) for name in configuration.names]


@pytest.fixture
def results(capsys) -> Callable[..., list[dict[str, Any]]]:
    """Runs the tiny experiment with further words and returns its rows."""

    def run(*words: str) -> list[dict[str, Any]]:
        assert codec_accuracy.main([*TINY, "--json", *words]) == 0
        rows = json.loads(capsys.readouterr().out)["results"]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    return run


def test_lock_step_is_the_exchange_written_down_in_numpy(tmp_path):
    trained = models(tmp_path, [*TINY, "--nodes", "2"])
    run = LockStep(trained, "float32", steps=8, exchange_every=2, topology="ring", merge="mean")
    looks = list(run.run(look_every=4, samples=100))
    reached = run.cluster.vectors()

    vectors = [model.reset() for model in trained]
    inbox: list[np.ndarray] | None = None
    for exchange in range(4):
        vectors = [model.train(vector, 2 * exchange, 2)[0] for model, vector in zip(trained, vectors, strict=True)]
        if inbox is not None:
            vectors = [vector + np.float32(0.5) * other for vector, other in zip(vectors, inbox, strict=True)]
        inbox = [vectors[1] - vectors[0], vectors[0] - vectors[1]]
    assert np.array_equal(reached, np.stack(vectors))
    assert np.allclose(run.consensus(), np.mean(vectors, axis=0), atol=1e-7)
    assert [look.step for look in looks] == [4, 8]
    assert looks[-1].accuracy == trained[0].test(np.mean(vectors, axis=0), 100).accuracy
    apart = np.stack(vectors) - np.mean(vectors, axis=0)
    assert looks[-1].distance == pytest.approx(float(np.sqrt(np.mean(np.square(apart)))), rel=1e-3)


def test_every_codec_exchanges_as_often_and_sends_what_it_should(results, tmp_path):
    rows = results("--codecs", ",".join(CODECS))
    assert [row["codec"] for row in rows] == list(CODECS)
    nbytes = rows[0]["final_merge_nbytes"] / 3
    for row in rows:
        # The pull that is asked for after the last step comes too late.
        assert row["merges"] == [11] * 4 and row["failures"] == [{}] * 4
        assert 0 < row["consensus_accuracy"] <= 1
    assert rows[0]["nbytes"] == pytest.approx(11 * nbytes, rel=0.05)
    shares = {row["codec"]: row["nbytes_ratio"] for row in rows}
    assert shares["int8"] == pytest.approx(0.26, abs=0.03)
    assert shares["top-k:0.05:int8"] < shares["mean-threshold:int8"] < shares["int8"]


def test_the_same_seed_gives_the_same_results_and_another_one_others(results):
    words = ["--codecs", "top-k:0.05:int8", "--target", "0.1"]
    once = results(*words)
    assert once[0]["step_at_target"] is not None
    assert results(*words) == once
    assert results(*words, "--seed", "1") != once


def test_what_is_kept_is_not_done_again_and_other_settings_are_refused(results, tmp_path, monkeypatch, capsys):
    words = ["--codecs", "int8", "--out", str(tmp_path / "out")]
    made = results(*words)
    monkeypatch.setattr(codec_accuracy, "lock_step", lambda _: pytest.fail("trained again"))
    assert results(*words) == made
    assert json.loads((tmp_path / "out" / "compared.json").read_text())[0]["nbytes"] == made[0]["nbytes"]
    assert codec_accuracy.main([*TINY, *words, "--batch", "8"]) == 2
    assert "batch 16 (now 8)" in capsys.readouterr().err


@pytest.mark.parametrize("codec", [*CODECS, "float32+deflate", "bfloat16", "top-k:0.01", "mean-threshold"])
def test_real_nodes_are_configured_to_use_the_codec(codec, tmp_path):
    arguments = codec_accuracy.parse(TINY)
    written = json.loads(codec_accuracy.configured(arguments, tmp_path).to_json())
    nodes = [{"name": "node1", "address": "127.0.0.1:7101"}, {"name": "node2", "address": "127.0.0.1:7102"}]
    sections = {**codec_accuracy.sections(arguments), "compress": codec_accuracy.compress(arguments, codec)}
    file = tmp_path / "real.yaml"
    file.write_text(json.dumps({"cluster": {"name": "codecs"}, "nodes": nodes, **sections}))
    configuration = load(file, ())
    assert codec_name(configuration.compress) == codec
    assert configuration.train.steps == written["train"]["steps"] == 12


def test_unknown_codec_is_refused_before_anything_is_trained(capsys):
    with pytest.raises(SystemExit):
        codec_accuracy.parse([*TINY, "--codecs", "float32,top-k"])
    assert "no delta codec 'top-k'" in capsys.readouterr().err
