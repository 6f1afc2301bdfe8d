"""A run's checkpoints: when they are made, what is in them, and how a trainer goes on from one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from p2pdl.checkpoint.folder import Checkpoint, CheckpointFolder
from p2pdl.checkpoint.saving import Saver
from p2pdl.clock import Clock
from p2pdl.config.reliability import Checkpoint as CheckpointSettings
from p2pdl.errors import DivergedError
from p2pdl.node.resumption import CHECKPOINT_FOLDER
from p2pdl.training.divergence import confirm_finite
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.loop import Progress
from p2pdl.training.state import capture, restore
from p2pdl.types import JsonObject

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a run goes on.

    Attributes:
        progress: How far the training was.
        counters: What the exchange had done.
        seconds: How long the training had taken.
    """

    progress: Progress
    counters: ExchangeCounters
    seconds: float


class RunCheckpoints:
    """Saves a run now and then, and brings it back.

    Args:
        folder: The node's run folder.
        settings: The section `checkpoint`.
        model: Built.
        optimizer: Built for the model.
        clock: Source of times.

    Raises:
        CheckpointError: The folder cannot be written.
    """

    def __init__(self, folder: Path, settings: CheckpointSettings, model: Any, optimizer: Any, clock: Clock) -> None:
        self._every = settings.every
        self._model = model
        self._optimizer = optimizer
        self._clock = clock
        self._folder = CheckpointFolder(folder / CHECKPOINT_FOLDER, settings.keep)
        self._saver = Saver(self._folder, clock)
        self._due = clock.now() + settings.every

    def resume(self) -> Resumed | None:
        """Bring model and optimizer to the newest whole checkpoint; None if there is none.

        The learning rate stays what is configured: a run that is started again may be given another one.

        Raises:
            CheckpointMismatch: The checkpoint does not fit the model.
        """
        checkpoint = self._restored()
        if checkpoint is None:
            return None
        header = checkpoint.header
        known = {field.name for field in fields(ExchangeCounters)}
        counters = ExchangeCounters(**{name: it for name, it in header["counters"].items() if name in known})
        log.info("going on from %s, saved at step %d", checkpoint.path.name, checkpoint.step)
        return Resumed(Progress(**header["progress"]), counters, header["seconds"])

    def restore_good(self) -> int | None:
        """After a divergence: bring the weights back to the newest whole checkpoint; all in it are finite.

        Returns:
            The step at which it was saved; None if there is none.
        """
        self._saver.wait()
        checkpoint = self._restored()
        return None if checkpoint is None else checkpoint.step

    def after_step(self, progress: Progress, counters: ExchangeCounters, seconds: Callable[[], float]) -> None:
        """Begin to save, if it is time to.

        Args:
            progress: How far the training is.
            counters: What the exchange has done.
            seconds: Says how long the training has taken.

        Raises:
            DivergedError: There is something that is not finite; it was not saved.
        """
        if not self._every or self._clock.now() < self._due or self._saver.is_busy:
            return
        self._due = self._clock.now() + self._every
        arrays = capture(self._model, self._optimizer, self._saver.spare())
        confirm_finite(progress.step, arrays.values())
        self._saver.save(progress.step, _header(progress, counters, seconds()), arrays)

    def save_now(self, progress: Progress, counters: ExchangeCounters, seconds: Callable[[], float]) -> None:
        """Save before this returns: the run pauses or ends here. Arguments as for `after_step`.

        What is not finite is not saved: the checkpoint before is what to go on from.
        """
        if self._every and progress.step:
            arrays = capture(self._model, self._optimizer, self._saver.spare())
            with contextlib.suppress(DivergedError):
                confirm_finite(progress.step, arrays.values())
                self._saver.save_now(progress.step, _header(progress, counters, seconds()), arrays)

    def figures(self) -> JsonObject:
        """What the status and the metrics say of it."""
        figures = self._saver.figures
        return {
            "checkpoints": figures.saves,
            "checkpoint_failures": figures.failures,
            "checkpoint_step": figures.step,
            "checkpoint_seconds": round(figures.seconds, 3),
        }

    def close(self) -> None:
        """Wait until what is being saved is on the disk."""
        self._saver.close()

    def _restored(self) -> Checkpoint | None:
        checkpoint = self._folder.newest()
        if checkpoint is not None:
            learning_rate = float(self._optimizer.learning_rate)
            restore(self._model, self._optimizer, checkpoint.arrays)
            self._optimizer.learning_rate = learning_rate
        return checkpoint


def _header(progress: Progress, counters: ExchangeCounters, seconds: float) -> JsonObject:
    return {"progress": asdict(progress), "counters": asdict(counters), "seconds": seconds}
