"""The figures of a run, against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.harness.figures import MOST_SAMPLES, run_figures, step_figures, steps_side_by_side


def times(*moments: float) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(1.0, len(moments) + 1), np.array(moments)


def test_steps_count_while_all_nodes_train_and_not_the_first_ones() -> None:
    early = times(0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.5, 9.0)
    late = times(2.0, 3.0, 4.0, 5.0, 5.5, 7.0)
    # Both are past their third step from 5.0 on, and train until 7.0.
    assert steps_side_by_side({"early": early, "late": late}).tolist() == [1.0, 0.5, 1.5]


def test_a_step_that_was_done_again_or_is_missing_counts_for_nothing() -> None:
    steps = np.array([4.0, 5.0, 7.0, 8.0])
    assert steps_side_by_side({"one": (steps, np.array([1.0, 2.0, 9.0, 9.5]))}).tolist() == [1.0, 0.5]


def test_nodes_that_never_train_side_by_side_have_no_steps() -> None:
    assert not len(steps_side_by_side({}))
    assert not len(steps_side_by_side({"one": times(*range(9)), "two": times(1.0, 2.0)}))
    assert step_figures([]) == {"median": None, "p90": None, "count": 0, "seconds": []}


def test_quantiles_are_those_of_all_steps_though_not_all_are_kept() -> None:
    seconds = np.random.default_rng(0).exponential(size=12_345)
    found = step_figures(seconds)
    assert found["count"] == 12_345 and len(found["seconds"]) == MOST_SAMPLES
    assert found["median"] == np.median(seconds) and found["p90"] == np.quantile(seconds, 0.9)
    assert np.quantile(found["seconds"], [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(seconds, [0.1, 0.5, 0.9]), rel=0.01
    )


def line(step: int, seconds: float, accuracy: float | None) -> str:
    figures = {"step": step, "seconds": seconds, "evaluation_seconds": 0.5, "bytes_received": 10 * step}
    return json.dumps({"node": "node1", **figures, "train_loss": 1 / step, "test_accuracy": accuracy}) + "\n"


@pytest.mark.parametrize("evaluates", [True, False])
def test_curves_are_of_the_lines_with_an_evaluation_if_there_are_any(evaluates: bool, tmp_path: Path) -> None:
    node = tmp_path / "node1"
    node.mkdir()
    lines = [line(step, step / 10, 0.5 if evaluates and step % 2 == 0 else None) for step in range(1, 5)]
    (node / "metrics.jsonl").write_text("".join(lines))
    (node / "summary.json").write_text(json.dumps({"node": "node1", "state": "done", "test_accuracy": 0.75}))
    found = run_figures(tmp_path, ["node1"])
    curve = found["nodes"]["node1"]["curve"]
    kept = [2, 4] if evaluates else [1, 2, 3, 4]
    assert curve["step"] == kept and curve["bytes_received"] == [10 * step for step in kept]
    assert curve["test_accuracy"] == ([0.5, 0.5] if evaluates else [None] * 4)
    assert curve["train_loss"] == pytest.approx([1 / step for step in kept], abs=1e-6)
    assert found["accuracy"] == 0.75 and not found["is_consensus"] and found["step"]["count"] == 0
