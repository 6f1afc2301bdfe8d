"""Saving in the background: one write at a time, faults that end nothing, figures that are right."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest

from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.checkpoint.saving import Saver
from p2pdl.clock import VirtualClock
from p2pdl.failpoints import switch
from p2pdl.training.state import capture
from p2pdl.types import JsonObject
from tests.checkpoint.samples import arrays_of, assert_newest, assert_same, checkpoints

SECONDS = 20.0


class GatedFolder(CheckpointFolder):
    """A folder that writes when it is let; notes what it was given and in which thread."""

    def __init__(self, path: Path, clock: VirtualClock | None = None) -> None:
        super().__init__(path)
        self.begun, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.threads: list[str] = []
        self.arrays: Mapping[str, np.ndarray] = {}
        self._clock = clock

    def save(self, step: int, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> int:
        self.threads.append(threading.current_thread().name)
        self.arrays = arrays
        self.begun.release()
        assert self.let.acquire(timeout=SECONDS)
        if self._clock is not None:
            self._clock.advance_to(self._clock.now() + 2.5)
        return super().save(step, header, arrays)


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    yield
    switch("")


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[GatedFolder, Saver]]:
    clock = VirtualClock()
    folder = GatedFolder(tmp_path, clock)
    saver = Saver(folder, clock)
    yield folder, saver
    folder.let.release(10)
    saver.close()


def save(saver: Saver, step: int) -> bool:
    return saver.save(step, {"step": step}, arrays_of(step))


def test_save_is_written_by_its_thread_while_the_caller_goes_on(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    assert not saver.is_busy
    assert save(saver, 1)
    assert folder.begun.acquire(timeout=SECONDS)
    assert saver.is_busy and folder.newest() is None
    folder.let.release()
    saver.wait()
    assert folder.threads == ["p2pdl-saver"] and not saver.is_busy
    assert_newest(folder, 1)


def test_save_while_one_is_under_way_is_skipped_and_counted(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    assert save(saver, 1)
    assert not save(saver, 2) and not save(saver, 3)
    folder.let.release()
    saver.wait()
    assert save(saver, 4)
    folder.let.release()
    saver.wait()
    figures = saver.figures
    assert (figures.saves, figures.skipped, figures.failures, figures.step) == (2, 2, 0, 4)
    assert checkpoints(folder.path) == ["step-000000001.ckpt", "step-000000004.ckpt"]


def test_save_writes_what_it_was_given_whatever_happens_to_it_afterwards(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    header, arrays = {"step": 5}, arrays_of(5)
    view = arrays["model/kernel"][:]
    view.flags.writeable = False
    assert saver.save(5, header, {**arrays, "model/kernel": view})
    assert folder.begun.acquire(timeout=SECONDS)
    header["step"] = 6
    for array in arrays.values():
        array[...] = 0
    folder.let.release()
    saver.wait()
    assert_newest(folder, 5)


def test_save_takes_what_nobody_can_change_without_a_copy(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    fixed, loose = np.ones(100), np.ones(100)
    fixed.flags.writeable = False
    assert saver.save(1, {}, {"fixed": fixed, "loose": loose})
    assert folder.begun.acquire(timeout=SECONDS)
    assert folder.arrays["fixed"] is fixed
    assert not np.shares_memory(folder.arrays["loose"], loose)
    folder.let.release()


def test_save_now_is_written_when_it_returns_and_after_the_one_under_way(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    assert save(saver, 1)
    folder.let.release(2)
    assert saver.save_now(2, {"step": 2}, arrays_of(2))
    assert folder.threads == ["p2pdl-saver", threading.current_thread().name]
    assert (saver.figures.saves, saver.figures.step) == (2, 2)
    assert checkpoints(folder.path) == ["step-000000001.ckpt", "step-000000002.ckpt"]
    assert_newest(folder, 2)


def test_close_waits_for_the_write_under_way_and_ends_the_thread(tmp_path: Path) -> None:
    folder = GatedFolder(tmp_path)
    saver = Saver(folder)
    assert save(saver, 1)
    assert folder.begun.acquire(timeout=SECONDS)
    closing = threading.Thread(target=saver.close)
    closing.start()
    assert folder.newest() is None and closing.is_alive()
    folder.let.release()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert_newest(folder, 1)
    assert not any(thread.name == "p2pdl-saver" for thread in threading.enumerate())
    with pytest.raises(RuntimeError, match="closed"):
        save(saver, 2)


def test_figures_are_those_of_the_last_save(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    assert (saver.figures.step, saver.figures.seconds, saver.figures.nbytes) == (None, 0.0, 0)
    for step in (1, 2):
        folder.let.release()
        assert saver.save_now(step, {"step": step}, arrays_of(step, 1000 * step))
        assert saver.figures.seconds == 2.5
        assert saver.figures.nbytes == (folder.path / f"step-{step:09d}.ckpt").stat().st_size


def test_failing_disk_is_one_warning_until_it_has_recovered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = CheckpointFolder(tmp_path)
    saver = Saver(folder)
    steps = iter(range(1, 100))

    def save_next() -> list[logging.LogRecord]:
        caplog.clear()
        save(saver, next(steps))
        saver.wait()
        return caplog.records

    assert save_next() == []
    for _ in range(2):
        switch("checkpoint.before-sync=enospc")
        (warning,) = save_next()
        assert warning.levelno == logging.WARNING
        assert "No space left on device; training goes on (make room" in warning.getMessage()
        assert save_next() == save_next() == []
        switch("")
        (recovered,) = save_next()
        assert recovered.levelno == logging.INFO and "written again" in recovered.getMessage()
        assert save_next() == []
    assert (saver.figures.saves, saver.figures.failures, saver.figures.step) == (5, 6, 11)
    saver.close()
    assert_newest(folder, 11)


def test_unforeseen_fault_is_one_warning_with_its_traceback_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path)
    saver = Saver(folder)
    switch("checkpoint.before-header=raise")
    assert save(saver, 1)
    saver.wait()
    assert not saver.save_now(2, {"step": 2}, arrays_of(2))
    (warning,) = caplog.records
    assert warning.exc_info is not None and "report this" in warning.getMessage()
    switch("")
    assert save(saver, 3)
    saver.close()
    assert (saver.figures.saves, saver.figures.failures) == (1, 2)
    assert_newest(folder, 3)


def test_save_now_that_fails_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saver = Saver(CheckpointFolder(tmp_path))
    switch("checkpoint.before-rename=enospc")
    assert not saver.save_now(1, {}, arrays_of(1))
    saver.close()
    assert "No space left" in caplog.text and checkpoints(tmp_path) == []


def test_spare_gives_the_arrays_of_the_last_write_once(gated: tuple[GatedFolder, Saver]) -> None:
    folder, saver = gated
    fixed, loose = np.ones(100), np.ones(100)
    fixed.flags.writeable = False
    assert saver.spare() == {}
    saver.save(1, {}, {"fixed": fixed, "loose": loose})
    assert folder.begun.acquire(timeout=SECONDS)
    assert saver.spare() == {}
    folder.let.release()
    saver.wait()
    spare = saver.spare()
    assert spare["fixed"] is fixed and not np.shares_memory(spare["loose"], loose)
    assert saver.spare() == {}


def test_capture_and_save_take_the_same_memory_again_and_again(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    folder = CheckpointFolder(tmp_path)
    saver = Saver(folder)
    places = []
    for step in range(3):
        model.layers[0].bias.assign(np.full(3, step))
        arrays = capture(model, optimizer, saver.spare())
        places.append([array.ctypes.data for array in arrays.values()])
        assert saver.save(step, {}, arrays)
        saver.wait()
        newest = folder.newest()
        assert newest is not None
        assert_same(newest.arrays, capture(model, optimizer))
    assert places[0] == places[1] == places[2]
    saver.close()
