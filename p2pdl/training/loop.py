"""The training loop of a node: batch, step, exchange, record; nothing in it waits for a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from p2pdl.clock import Clock
from p2pdl.errors import DivergedError
from p2pdl.training.exchange import Exchange, smoothed
from p2pdl.training.recorder import Recorder
from p2pdl.training.step import Step
from p2pdl.training.timeline import Timeline

NextBatch = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(slots=True)
class Progress:
    """How far a node has come.

    Attributes:
        step: Optimizer steps done.
        samples: Training samples seen.
        loss: Smoothed loss.
        density: Share of the gradient entries that the mask kept in the last recorded step; None without a mask.
        compute_seconds: Time spent on batches and steps.
        exchange_seconds: Time spent after the steps, for exchange of every kind.
    """

    step: int = 0
    samples: int = 0
    loss: float = math.nan
    density: float | None = None
    compute_seconds: float = 0.0
    exchange_seconds: float = 0.0


def train(
    step_function: Step,
    batch: NextBatch,
    steps: int,
    exchange: Exchange | None,
    recorder: Recorder,
    report: Callable[[Progress], None],
    stopping: Callable[[], bool],
    clock: Clock,
    timeline: Timeline | None = None,
) -> Progress:
    """Train for a number of steps.

    Args:
        step_function: The compiled step.
        batch: Gives the batch of a step, counted from 0.
        steps: How many steps to do.
        exchange: Called after every step; None to train alone.
        recorder: Where steps are recorded.
        report: Called once an interval with the progress, before its line is written.
        stopping: Asked after every step; True ends training early.
        clock: Source of times.
        timeline: Where each step is recorded; None for nowhere.

    Raises:
        DivergedError: The loss of a batch is not finite.
    """
    progress = Progress()
    recorder.begin()
    while progress.step < steps and not stopping():
        started = clock.now()
        inputs, labels = batch(progress.step)
        loss = float(step_function(tf.constant(inputs), tf.constant(labels)))
        progress.step += 1
        progress.samples += len(labels)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of step {progress.step} is {loss}: training has diverged; nothing of it was published",
                "lower train.optimizer.learning_rate, or check the data for extreme values",
            )
        computed = clock.now()
        progress.compute_seconds += computed - started
        if timeline is not None:
            timeline.record("trainer", "compute", started, computed, step=progress.step)
        if exchange is not None:
            exchange.after_step(progress.step, progress.samples, loss)
            progress.loss = exchange.smoothed_loss
        else:
            progress.loss = smoothed(progress.loss, loss)
        ended = clock.now()
        progress.exchange_seconds += ended - computed
        recorder.on_step(loss, ended - started)
        if recorder.is_line_due():
            report(progress)
    report(progress)
    return progress
