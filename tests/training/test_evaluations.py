"""Evaluations between steps under a virtual clock: when, for how long, and what they leave alone."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from p2pdl.clock import VirtualClock
from p2pdl.training.evaluate import Evaluation, evaluate_in_batches
from p2pdl.training.evaluations import Evaluations
from p2pdl.training.loop import Progress, train
from p2pdl.training.losses import resolve
from p2pdl.training.recorder import Recorder
from p2pdl.training.step import compile_step
from p2pdl.training.timeline import Timeline

STEP_SECONDS, EXCHANGE_SECONDS, BATCH_SECONDS, BATCHES = 0.25, 0.125, 2.0, 3
CYCLE = STEP_SECONDS + EXCHANGE_SECONDS


class Node:
    """A node whose steps, exchanges and evaluations take their time, and whose accuracy is a thousandth of its step."""

    def __init__(self, folder, every, steps):
        self.clock = VirtualClock(100.0)
        self.smoothed_loss = 0.5
        self.step = 0
        self.steps = steps
        self.stops_after_batches = None
        self.batches = 0
        self.heard = []
        self.pauses = []
        self.reports = []
        self.evaluated = []
        self.timeline = Timeline(folder / "timeline.json", "node1")
        self.recorder = Recorder(folder / "metrics.jsonl", 1000.0, steps, self.clock)
        self.evaluations = Evaluations(
            every, self._evaluate, self, self.clock, self._stopping, lambda: self.heard.append("status"), self.timeline
        )

    def train(self, progress=None):
        """The progress, and the spans of the timeline."""
        self.step = progress.step if progress else 0
        try:
            if not self.step:
                self.evaluations.before_training()
            progress = train(
                self._step,
                lambda number: (np.zeros((4, 2), np.float32), np.zeros(4, np.int32)),
                self.steps,
                self,
                self.recorder,
                self._report,
                self._stopping,
                self.clock,
                self.timeline,
                progress=progress,
                evaluations=self.evaluations,
            )
        finally:
            self.timeline.close()
        return progress

    def after_step(self, step, samples, loss):
        self._wait(EXCHANGE_SECONDS)

    def call_off(self):
        pass

    def while_evaluating(self):
        self.heard.append("exchange")

    def after_evaluation(self, seconds):
        self.pauses.append(seconds)

    def _step(self, inputs, labels):
        self._wait(STEP_SECONDS)
        self.step += 1
        return tf.constant(0.5)

    def _evaluate(self):
        self.evaluated.append(self.step)
        for number in range(1, BATCHES + 1):
            self._wait(BATCH_SECONDS)
            self.batches += 1
            yield Evaluation(1.0, self.step / 1000, 128 * number)

    def _stopping(self):
        return self.stops_after_batches is not None and self.batches >= self.stops_after_batches

    def _report(self, progress):
        found = self.evaluations.at(progress.step)
        accuracy = found.accuracy if found else None
        self.reports.append((progress.step, self.recorder.elapsed, progress.evaluation_seconds, accuracy))
        self.recorder.write_line({"step": progress.step})

    def _wait(self, seconds):
        self.clock.advance_to(self.clock.now() + seconds)


@pytest.fixture
def nodes(tmp_path):
    return lambda every, steps: Node(tmp_path, every, steps)


ONE = BATCHES * BATCH_SECONDS


def test_evaluations_come_whenever_so_much_was_trained_and_their_time_is_told_apart(nodes):
    node = nodes(4 * CYCLE, 10)
    progress = node.train()
    # Before the first step, then after every fourth one, and after the last.
    assert node.evaluated == [0, 4, 8, 10]
    assert node.reports == [
        (0, 0.0, 0.0, 0.0),
        (4, 4 * CYCLE + ONE, ONE, 0.004),
        (8, 8 * CYCLE + 2 * ONE, 2 * ONE, 0.008),
        (10, 10 * CYCLE + 3 * ONE, 3 * ONE, 0.01),
    ]
    assert progress.evaluation_seconds == 3 * ONE
    assert (progress.compute_seconds, progress.exchange_seconds) == (10 * STEP_SECONDS, 10 * EXCHANGE_SECONDS)


def test_evaluation_is_no_part_of_a_step(nodes, tmp_path):
    node = nodes(4 * CYCLE, 10)
    node.train()
    assert node.recorder.seconds_per_step() == {"median": CYCLE, "p10": CYCLE, "p90": CYCLE}
    assert node.recorder.recent_seconds_per_step() == CYCLE
    assert node.pauses == [ONE] * 3
    spans = [event for event in json.loads((tmp_path / "timeline.json").read_text()) if event["ph"] == "X"]
    lengths = {name: [span["dur"] for span in spans if span["name"] == name] for name in ("compute", "evaluate")}
    assert lengths == {"compute": [round(1e6 * STEP_SECONDS)] * 10, "evaluate": [round(1e6 * ONE)] * 3}


def test_after_each_batch_the_node_says_that_it_is_there(nodes):
    node = nodes(4 * CYCLE, 4)
    node.train()
    # The exchange has not begun before the first step, but has its say all the same.
    assert node.heard == ["status", "exchange"] * (2 * BATCHES)


def test_without_the_setting_there_is_none(nodes):
    node = nodes(0.0, 10)
    progress = node.train()
    assert node.evaluated == [] and progress.evaluation_seconds == 0.0
    assert [report[3] for report in node.reports] == [None]
    assert node.evaluations.latest is None


def test_weights_that_were_evaluated_are_not_evaluated_again(nodes):
    node = nodes(5 * CYCLE, 5)
    node.train()
    assert node.evaluated == [0, 5]
    # The line of the end is written again after the last step's, with the same accuracy.
    assert [report[::3] for report in node.reports] == [(0, 0.0), (5, 0.005), (5, 0.005)]


def test_run_that_goes_on_evaluates_when_it_is_time_to(nodes):
    node = nodes(4 * CYCLE, 10)
    progress = node.train(Progress(step=3, evaluation_seconds=50.0))
    assert node.evaluated == [7, 10]
    assert progress.evaluation_seconds == 50.0 + 2 * ONE


@pytest.mark.parametrize("batches, accuracy", [(1, None), (BATCHES, None), (BATCHES + 1, 0.0)])
def test_node_that_is_to_stop_gives_an_evaluation_up(nodes, batches, accuracy):
    node = nodes(4 * CYCLE, 10)
    node.stops_after_batches = batches
    progress = node.train()
    assert node.batches == batches
    assert progress.step == (0 if accuracy is None else 4)
    assert (node.evaluations.latest and node.evaluations.latest.accuracy) == accuracy
    assert node.reports[-1][3] is None
    # What has been waited for was no training, even if nothing has come of it.
    assert progress.evaluation_seconds == (0.0 if accuracy is None else BATCH_SECONDS)


def test_training_ends_with_the_same_bits_whether_it_is_evaluated_or_not():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 6)).astype(np.float32), rng.integers(0, 3, 300).astype(np.int32)

    def trained(evaluates):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5, seed=2),
                keras.layers.Dense(3),
            ]
        )
        loss = resolve("auto", model)
        step = compile_step(model, keras.optimizers.SGD(0.1, momentum=0.9), loss)
        accuracies = []
        for number in range(12):
            rows = np.arange(25 * number, 25 * (number + 1))
            step(tf.constant(x[rows]), tf.constant(y[rows]))
            if evaluates:
                *_, found = evaluate_in_batches(model, x, y, loss, 200)
                accuracies.append(found.accuracy)
        return model.get_weights(), accuracies

    plain, _ = trained(False)
    watched, accuracies = trained(True)
    assert len(set(accuracies)) > 1
    for one, other in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(one, other)
