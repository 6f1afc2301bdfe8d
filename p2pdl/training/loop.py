"""The training loop of a node: batch, step, exchange, record; nothing in it waits for a peer."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from p2pdl import failpoints
from p2pdl.clock import Clock
from p2pdl.errors import DivergedError
from p2pdl.training.divergence import diverged
from p2pdl.training.evaluations import Evaluations, Interrupted
from p2pdl.training.recorder import Recorder
from p2pdl.training.smoothing import smoothed
from p2pdl.training.step import Step
from p2pdl.training.timeline import Timeline

log = logging.getLogger(__name__)

NextBatch = Callable[[int], tuple[np.ndarray, np.ndarray]]

Restore = Callable[[], int | None]
"""Puts earlier weights and the optimizer's state of that time back; returns their step, or None if there are none."""


class AfterStep(Interrupted, Protocol):
    """What a node does after each step besides counting it: see `Exchange` and `WorkerExchange`."""

    smoothed_loss: float

    def after_step(self, step: int, samples: int, loss: float) -> None:
        """Exchange what is due.

        Args:
            step: Steps done so far.
            samples: Training samples seen so far.
            loss: The loss of the step's own batch.

        Raises:
            DivergedError: The loss or the weights are not finite.
        """
        ...

    def call_off(self) -> None:
        """Forget what is under way: the weights that it began from are not to be used."""
        ...


RESTORES, RESTORE_STEPS = 3, 1000
"""Training that diverges more often than this within so many steps has a reason that going back does not mend."""


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
        restores: How often training has diverged and gone on from earlier weights.
        evaluation_seconds: Time spent between steps on evaluations.
    """

    step: int = 0
    samples: int = 0
    loss: float = math.nan
    density: float | None = None
    compute_seconds: float = 0.0
    exchange_seconds: float = 0.0
    restores: int = 0
    evaluation_seconds: float = 0.0


def train(
    step_function: Step,
    batch: NextBatch,
    steps: int,
    exchange: AfterStep | None,
    recorder: Recorder,
    report: Callable[[Progress], None],
    stopping: Callable[[], bool],
    clock: Clock,
    timeline: Timeline | None = None,
    restore: Restore | None = None,
    progress: Progress | None = None,
    save: Callable[[Progress], None] = lambda progress: None,
    evaluations: Evaluations | None = None,
    pace: Callable[[int], None] = lambda step: None,
    confirm: Callable[[int], None] = lambda step: None,
) -> Progress:
    """Train for a number of steps.

    After a loss or weights that are not finite, training goes on from earlier weights where there are any: with the
    batches that come next, not those that led there, and the count of steps goes on too. A pull under way is dropped.
    What `exchange`, `save` and `confirm` raise of that kind is treated alike.

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
        restore: Called when training has diverged, `RESTORES` times within `RESTORE_STEPS` steps at most; None to end
            it then.
        progress: Where to go on; the beginning where None.
        save: Called after every step, to save what is due.
        evaluations: Made between steps, each with a report of its own right after it; None for none.
        pace: Called before every step with its number, counted from 0, to set its learning rate.
        confirm: Called after the last step, to look whether all weights are finite: no later loss would show it.

    Raises:
        DivergedError: Training has diverged, and there is no going back.
    """
    progress = progress or Progress()
    ways_back = _WaysBack(restore, exchange)
    recorder.begin()
    if evaluations is not None:
        evaluations.begin()
        if evaluations.at(progress.step) is not None:
            report(progress)
    while progress.step < steps and not stopping():
        started = clock.now()
        pace(progress.step)
        inputs, labels = batch(progress.step)
        loss = float(step_function(tf.constant(inputs), tf.constant(labels)))
        failpoints.reach("trainer.step", since=started)
        progress.step += 1
        progress.samples += len(labels)
        computed = clock.now()
        progress.compute_seconds += computed - started
        try:
            if not math.isfinite(loss):
                raise diverged(progress.step, loss)
            if timeline is not None:
                timeline.record("trainer", "compute", started, computed, step=progress.step)
            if exchange is not None:
                exchange.after_step(progress.step, progress.samples, loss)
            progress.loss = smoothed(progress.loss, loss) if exchange is None else exchange.smoothed_loss
            ended = clock.now()
            progress.exchange_seconds += ended - computed
            recorder.on_step(loss, ended - started)
            if progress.step == steps:
                confirm(steps)
            save(progress)
        except DivergedError as error:
            ways_back.take(error, progress)
            continue
        if evaluations is not None:
            progress.evaluation_seconds += evaluations.take_due(progress.step)
        if recorder.is_line_due() or (evaluations is not None and evaluations.at(progress.step) is not None):
            report(progress)
    if evaluations is not None:
        progress.evaluation_seconds += evaluations.take(progress.step)
    report(progress)
    return progress


class _WaysBack:
    """Goes back to earlier weights, not too often."""

    def __init__(self, restore: Restore | None, exchange: AfterStep | None) -> None:
        self._restore = restore
        self._exchange = exchange
        self._taken: deque[int] = deque(maxlen=RESTORES)

    def take(self, error: DivergedError, progress: Progress) -> None:
        """Go back, or raise the error."""
        recent = [step for step in self._taken if progress.step - step < RESTORE_STEPS]
        if self._restore is None or len(recent) == RESTORES:
            raise error
        if self._exchange is not None:
            self._exchange.call_off()
        step = self._restore()
        if step is None:
            raise error
        self._taken.append(progress.step)
        progress.restores += 1
        log.warning(
            "%s; going on from the weights of step %d with the next batches (%d of at most %d times within %d steps)",
            error.message,
            step,
            len(recent) + 1,
            RESTORES,
            RESTORE_STEPS,
        )
