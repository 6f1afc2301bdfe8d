"""Evaluations of a node's weights while it trains: when one is due, and what came of the latest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

from p2pdl import failpoints
from p2pdl.clock import Clock
from p2pdl.training.evaluate import Evaluation
from p2pdl.training.timeline import TRAINER, Timeline


class Interrupted(Protocol):
    """What an evaluation keeps from its work: see `Exchange` and the exchanges of workers."""

    def while_evaluating(self) -> None:
        """The training stands still: see to it that nobody takes this node for dead; called after each batch."""
        ...

    def after_evaluation(self, seconds: float) -> None:
        """The training goes on.

        Args:
            seconds: How long it stood still, which is no part of a step.
        """
        ...


class Evaluations:
    """Evaluates the weights as they are between two steps: before the first, after the last, and now and then.

    Args:
        every: Seconds of training between two evaluations, those themselves not counted; 0 evaluates never.
        batches: Begins an evaluation, and gives after each batch what has come of the samples so far.
        exchange: What stands still meanwhile; None for a node that trains alone.
        clock: Source of times.
        stopping: True as soon as the node is to end: then an evaluation is given up.
        meanwhile: Called after each batch.
        timeline: Where evaluations are recorded; None for nowhere.

    Attributes:
        latest: What came of the latest evaluation; None before the first.
    """

    def __init__(
        self,
        every: float,
        batches: Callable[[], Iterator[Evaluation]],
        exchange: Interrupted | None,
        clock: Clock,
        stopping: Callable[[], bool] = lambda: False,
        meanwhile: Callable[[], None] = lambda: None,
        timeline: Timeline | None = None,
    ) -> None:
        self._every = every
        self._batches = batches
        self._exchange = exchange
        self._clock = clock
        self._stopping = stopping
        self._meanwhile = meanwhile
        self._timeline = timeline
        self._due = math.inf
        self._step: int | None = None
        self.latest: Evaluation | None = None

    def at(self, step: int) -> Evaluation | None:
        """What the weights after so many steps are worth; None if they were not evaluated."""
        return self.latest if step == self._step else None

    def before_training(self) -> None:
        """Evaluate the weights of a run that begins: before its time does, and before anybody waits for this node."""
        if self._every:
            self._evaluate(0)

    def begin(self) -> None:
        """The training begins now, or goes on."""
        self._due = self._clock.now() + self._every if self._every else math.inf

    def take_due(self, step: int) -> float:
        """Evaluate if it is time to.

        Args:
            step: Steps done.

        Returns:
            The seconds that it took; 0 if it is not time yet.
        """
        return self.take(step) if self._clock.now() >= self._due else 0.0

    def take(self, step: int) -> float:
        """Evaluate the weights, unless that was done since the last step.

        Args:
            step: Steps done.

        Returns:
            The seconds that it took.
        """
        if not self._every or self._step == step or self._stopping():
            return 0.0
        started = self._clock.now()
        self._evaluate(step)
        ended = self._clock.now()
        self._due = ended + self._every
        if self._timeline is not None:
            self._timeline.record(TRAINER, "evaluate", started, ended)
        if self._exchange is not None:
            self._exchange.after_evaluation(ended - started)
        return ended - started

    def _evaluate(self, step: int) -> None:
        so_far = None
        for found in self._batches():
            failpoints.reach("trainer.evaluate")
            if self._stopping():
                return
            so_far = found
            self._meanwhile()
            if self._exchange is not None:
                self._exchange.while_evaluating()
        self.latest, self._step = so_far, step
