"""Workers of uneven speed against plain SGD, and against what windows allow."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from experiments.harness.uneven_workers import UnevenRun, UnevenWorkers, train
from experiments.logical_workers import Task
from tests.experiments.desk import Desk

RATE, BATCH = 0.1, 8


def crew(*step_lengths: float, **settings: Any) -> tuple[Task, UnevenWorkers]:
    task = Task("digits", "mlp", 0.1, len(step_lengths), BATCH, 0)
    run = UnevenRun("digits", step_lengths, settings.pop("rule", "consgd"), RATE, 100, 50, batch=BATCH, **settings)
    return task, UnevenWorkers(task, run)


def test_one_worker_alone_is_plain_training() -> None:
    task, workers = crew(2.0)
    *_, last = itertools.islice(workers.train(), 5)
    weights = task.initial.copy()
    for step in range(5):
        inputs, labels = task.batches[0].batch(step)
        task.weights.assign(weights)
        task.gradient(tf.constant(inputs), tf.constant(labels))
        weights -= np.float32(RATE) * task.gradient.vector
    np.testing.assert_allclose(last.vector, weights, rtol=1e-5, atol=1e-7)
    assert last.pushes == 5 and 8.0 < last.time < 12.0
    assert workers.staleness == [0] * 5 and workers.waited == [0.0]


def test_without_a_window_nobody_waits_and_the_slow_one_pushes_seldom() -> None:
    _, workers = crew(1.0, 1.0, 4.0, policy="asp")
    *_, last = itertools.islice(workers.train(), 90)
    assert workers.waited == [0.0] * 3
    # 2.25 pushes in each unit of time.
    assert last.time == pytest.approx(40.0, rel=0.1)
    assert np.mean(workers.staleness) == pytest.approx(2.0, abs=0.1) and max(workers.staleness) >= 7


@pytest.mark.parametrize("staleness", [0, 3])
def test_in_a_window_all_are_as_fast_as_the_slowest(staleness: int) -> None:
    _, workers = crew(1.0, 1.0, 4.0, staleness=staleness)
    *_, last = itertools.islice(workers.train(), 90)
    assert last.time == pytest.approx(4.0 * 30, rel=0.15)
    idle = [waited / last.time for waited in workers.waited]
    assert idle[:2] == pytest.approx([0.75, 0.75], abs=0.06) and idle[2] < 0.01
    assert max(workers.staleness) <= 2 * (staleness + 1)


def test_the_rule_weighs_what_is_late() -> None:
    """Two workers of equal speed, one push each: the second one's weights are one version old."""
    ends = {}
    for rule in ("consgd", "dynsgd"):
        task, workers = crew(1.0, 1.0, rule=rule, policy="asp")
        moments = workers.train()
        after = [next(moments).vector.copy() for _ in range(2)]
        assert workers.staleness == [0, 1]
        ends[rule] = after[1] - after[0]
    np.testing.assert_allclose(ends["dynsgd"], ends["consgd"] / 2, atol=1e-7)


def test_policies_that_collect_are_refused() -> None:
    with pytest.raises(ValueError, match="not as under bsp"):
        crew(1.0, policy="bsp")


def test_figures_are_those_of_the_run_and_the_same_again(tmp_path: Path) -> None:
    run = UnevenRun("digits", [1.0, 3.0], "direction-distance", 0.1, 25, 10, width=0.1, batch=BATCH, samples=100)
    found = train(Desk(tmp_path), run)
    assert found == train(Desk(tmp_path), run)
    assert found["looks"]["samples"] == [80, 160, 200]
    assert found["accuracy"] == found["looks"]["accuracy"][-1] and found["time"] == found["looks"]["time"][-1]
    assert found["idle"][0] > 0.4 and found["idle"][1] < 0.05
