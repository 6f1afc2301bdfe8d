"""Training that diverges goes on from earlier weights, with the batches that come next, and not for ever."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import tensorflow as tf

from p2pdl.clock import VirtualClock
from p2pdl.errors import CheckpointError, DivergedError
from p2pdl.training.divergence import confirm_finite
from p2pdl.training.loop import RESTORE_STEPS, RESTORES, train
from p2pdl.training.recorder import Recorder

BATCH = 4


class Weights:
    """A model of one number, which a step adds the number of its batch to."""

    def __init__(self, folder, bad=(), bad_weights=(), quietly_bad=()):
        self.value = 0.0
        self.saved = (0, 0.0)
        self.batches = []
        self.events = []
        self.smoothed_loss = 0.5
        self._folder = folder
        self._bad, self._bad_weights, self._quietly_bad = set(bad), set(bad_weights), set(quietly_bad)

    def batch(self, number):
        self.batches.append(number)
        return np.full((BATCH, 1), number, np.float32), np.zeros(BATCH, np.int32)

    def step(self, inputs, labels):
        number = int(inputs[0, 0])
        self.value += number
        if number in self._quietly_bad:
            self.value = math.inf
        if number in self._bad:
            self.value = math.nan
            return tf.constant(math.nan)
        return tf.constant(0.5)

    def save(self, progress):
        self.saved = progress.step, self.value

    def restore(self):
        self.events.append("restore")
        step, self.value = self.saved
        return step

    def after_step(self, step, samples, loss):
        if step - 1 in self._bad_weights:
            raise DivergedError(f"the weights of step {step} are not finite")

    def call_off(self):
        self.events.append("call off")

    def confirm(self, step):
        confirm_finite(step, [np.array([self.value])])

    def train(self, steps, exchange=True, restore="mine", save=None):
        clock = VirtualClock(0.0)
        return train(
            self.step,
            self.batch,
            steps,
            self if exchange else None,
            Recorder(self._folder / "metrics.jsonl", 1.0, steps, clock),
            lambda progress: None,
            lambda: False,
            clock,
            restore=self.restore if restore == "mine" else restore,
            save=save or self.save,
            confirm=self.confirm,
        )


@pytest.mark.parametrize("exchange", [True, False])
def test_training_goes_on_from_the_last_weights_with_the_next_batches(tmp_path, caplog, exchange):
    weights = Weights(tmp_path, bad={4})
    with caplog.at_level(logging.WARNING):
        progress = weights.train(10, exchange)
    assert weights.batches == list(range(10))
    # Batch 4 left nothing behind: its update went with the weights.
    assert weights.value == sum(range(10)) - 4
    assert (progress.step, progress.samples, progress.restores) == (10, 10 * BATCH, 1)
    assert math.isfinite(progress.loss)
    assert [record.getMessage() for record in caplog.records] == [
        "the loss of step 5 is nan: training has diverged; nothing of it was published; going on from the weights of "
        "step 4 with the next batches (1 of at most 3 times within 1000 steps)"
    ]


def test_pull_under_way_is_dropped_before_the_weights_are_replaced(tmp_path):
    weights = Weights(tmp_path, bad={2, 6})
    weights.train(8)
    assert weights.events == ["call off", "restore"] * 2


def test_weights_that_cannot_be_published_are_a_divergence_too(tmp_path):
    weights = Weights(tmp_path, bad_weights={3})
    progress = weights.train(6)
    assert weights.value == sum(range(6)) - 3
    assert (progress.restores, weights.events) == (1, ["call off", "restore"])


@pytest.mark.parametrize("exchange", [True, False])
def test_weights_of_the_last_step_are_looked_at_though_its_loss_is_a_number(tmp_path, exchange):
    weights = Weights(tmp_path, quietly_bad={9})
    progress = weights.train(10, exchange)
    assert (progress.step, progress.restores, weights.value) == (10, 1, sum(range(9)))


def test_weights_that_cannot_be_saved_are_a_divergence_too(tmp_path):
    weights = Weights(tmp_path, quietly_bad={4})

    def save(progress):
        if progress.step % 3 == 0:
            weights.confirm(progress.step)
            weights.save(progress)

    progress = weights.train(12, save=save)
    # Seen at step 6: the batches 3 to 5 were lost with the weights of that time.
    assert (progress.restores, weights.value) == (1, sum(range(12)) - 3 - 4 - 5)


@pytest.mark.parametrize(
    "dtype, value, is_good",
    [("float32", 1.0, True), ("float32", math.nan, False), ("float16", -math.inf, False), ("int64", 7, True)],
)
def test_confirm_looks_at_every_array_of_floats(dtype, value, is_good):
    arrays = [np.zeros(3, np.float32), np.array([0, value], dtype)]
    if is_good:
        confirm_finite(8, arrays)
    else:
        with pytest.raises(DivergedError, match="not finite after step 8"):
            confirm_finite(8, arrays)


def test_confirm_looks_at_bfloat16():
    with pytest.raises(DivergedError):
        confirm_finite(1, [tf.constant([math.inf], tf.bfloat16).numpy()])


def test_training_that_diverges_again_and_again_ends(tmp_path):
    weights = Weights(tmp_path, bad={5, 6, 7, 8})
    with pytest.raises(DivergedError, match="step 9"):
        weights.train(20)
    assert weights.events.count("restore") == RESTORES
    assert weights.batches == list(range(9))


def test_what_was_long_ago_does_not_count(tmp_path):
    bad = {5, 6, 7, RESTORE_STEPS + 5, RESTORE_STEPS + 6, RESTORE_STEPS + 7}
    progress = Weights(tmp_path, bad).train(RESTORE_STEPS + 20)
    assert progress.restores == 6
    too_soon = {5, 6, 7, RESTORE_STEPS + 4}
    with pytest.raises(DivergedError, match=f"step {RESTORE_STEPS + 5} "):
        Weights(tmp_path, too_soon).train(RESTORE_STEPS + 20)


@pytest.mark.parametrize("restore", [None, lambda: None])
def test_without_anything_to_go_back_to_training_ends(tmp_path, restore):
    weights = Weights(tmp_path, bad={3})
    with pytest.raises(DivergedError, match="step 4"):
        weights.train(6, restore=restore)
    assert weights.batches == [0, 1, 2, 3]


def test_checkpoint_that_cannot_be_read_says_so_itself(tmp_path):
    def broken():
        raise CheckpointError("the checkpoint is damaged")

    with pytest.raises(CheckpointError, match="damaged"):
        Weights(tmp_path, bad={3}).train(6, restore=broken)
