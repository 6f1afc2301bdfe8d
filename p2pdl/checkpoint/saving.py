"""Saving in the background: training pays for a copy in memory, and neither waits for a disk nor fails with it."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.clock import Clock, MonotonicClock
from p2pdl.errors import CheckpointError
from p2pdl.lifeline import yield_to_training
from p2pdl.types import JsonObject

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SavingFigures:
    """What has been saved so far.

    Attributes:
        saves: Checkpoints written.
        failures: Checkpoints that could not be written.
        skipped: Checkpoints not begun, because the one before was still being written.
        step: Step of the last one written; None before the first.
        nbytes: Its bytes.
        seconds: How long writing it took.
    """

    saves: int = 0
    failures: int = 0
    skipped: int = 0
    step: int | None = None
    nbytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Order:
    step: int
    header: JsonObject
    arrays: dict[str, np.ndarray]


class Saver:
    """Writes checkpoints in a thread, one at a time; all calls come from one other thread.

    A disk that fails is one warning, and one more line when it has recovered; training goes on.

    Args:
        folder: Where to.
        clock: Source of times.

    Attributes:
        figures: What has been saved so far.
    """

    def __init__(self, folder: CheckpointFolder, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or MonotonicClock()
        self.figures = SavingFigures()
        self._changed = threading.Condition()
        self._order: _Order | None = None
        self._spare: dict[str, np.ndarray] = {}
        self._closed = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="p2pdl-saver", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """True while a checkpoint is being written: `save` would skip, so there is no need to capture anything."""
        return self._order is not None

    def spare(self) -> dict[str, np.ndarray]:
        """The arrays of the last write, to be captured into once more; empty where there are none.

        They are handed out once. Without them every save would take new memory, which costs several times the copy.
        """
        if self.is_busy:
            return {}
        spare, self._spare = self._spare, {}
        return spare

    def save(self, step: int, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> bool:
        """Begin to write a checkpoint, unless one is being written.

        Args:
            step: The step it belongs to.
            header: What else to keep, as JSON has it.
            arrays: By name. What somebody could still change is copied. Read-only arrays that own their memory, such
                as `capture` gives, are taken as they are, and are the saver's from now on.

        Returns:
            False if it was skipped.
        """
        if self._closed:
            raise RuntimeError("this saver is closed")
        if self.is_busy:
            self.figures.skipped += 1
            return False
        order = _Order(step, copy.deepcopy(header), {name: _lasting(array) for name, array in arrays.items()})
        with self._changed:
            self._order = order
            self._changed.notify_all()
        return True

    def save_now(self, step: int, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> bool:
        """Write a checkpoint before this returns, after the one that is being written.

        Args:
            step: The step it belongs to.
            header: What else to keep, as JSON has it.
            arrays: By name.

        Returns:
            False if it could not be written; the log says why.
        """
        self.wait()
        return self._write(_Order(step, header, dict(arrays)))

    def wait(self) -> None:
        """Wait until nothing is being written."""
        with self._changed:
            self._changed.wait_for(lambda: self._order is None)

    def close(self) -> None:
        """Wait for the checkpoint that is being written and end the thread."""
        self.wait()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        yield_to_training()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._order is not None)
                if self._closed:
                    return
            assert self._order is not None
            self._write(self._order)
            with self._changed:
                self._spare = self._order.arrays
                self._order = None
                self._changed.notify_all()

    def _write(self, order: _Order) -> bool:
        started = self._clock.now()
        try:
            nbytes = self._folder.save(order.step, order.header, order.arrays)
        except Exception as error:
            # Training outlives any fault of a save, also one that nobody has foreseen.
            self._note_failure(error)
            return False
        self.figures.saves += 1
        self.figures.step = order.step
        self.figures.nbytes = nbytes
        self.figures.seconds = self._clock.now() - started
        if self._is_failing:
            self._is_failing = False
            log.info("checkpoints are written again, the newest at step %d", order.step)
        return True

    def _note_failure(self, error: Exception) -> None:
        self.figures.failures += 1
        if self._is_failing:
            return
        self._is_failing = True
        if isinstance(error, CheckpointError):
            log.warning("%s; training goes on (%s)", error.message, error.remedy)
        else:
            log.warning("saving failed in an unforeseen way; training goes on (please report this)", exc_info=error)


def _lasting(array: np.ndarray) -> np.ndarray:
    """The array itself if nobody can change it, else a copy."""
    return array.copy() if array.flags.writeable or array.base is not None else array
