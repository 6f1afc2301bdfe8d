"""The folder of one trainer's checkpoints: finds the newest that is whole, removes old ones once a newer is safe."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2pdl.checkpoint.reading import read_file
from p2pdl.checkpoint.writing import sync_folder, write_file
from p2pdl.errors import CheckpointDamaged, CheckpointError
from p2pdl.failpoints import reach
from p2pdl.types import JsonObject

log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{9,})\.ckpt", re.ASCII)
_TEMPORARY = re.compile(r"\.step-\d{9,}\.ckpt\.tmp-(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that has been read and is whole.

    Attributes:
        step: The step it was saved at.
        header: As it was saved.
        arrays: As they were saved, in the same order.
        path: Its file.
    """

    step: int
    header: JsonObject
    arrays: dict[str, np.ndarray]
    path: Path


class CheckpointFolder:
    """The checkpoints of one trainer; no other process saves into the folder.

    What dead processes have left half-written is removed here.

    Args:
        path: The folder; made if it is not there.
        keep: How many checkpoints stay, 1 or more.

    Raises:
        CheckpointError: The folder cannot be made, or not be written.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"a folder cannot keep {keep} checkpoints")
        self.path = path
        self._keep = keep
        try:
            _make(path)
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(None, "this user may not write there, or the disk is read-only")
            for entry in path.iterdir():
                if (match := _TEMPORARY.fullmatch(entry.name)) and not _is_somebody_elses(int(match[1])):
                    entry.unlink()
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint folder {path} cannot be written: {error.strerror or error}",
                "choose a folder that this user can write, or make this one so",
            ) from None

    def save(self, step: int, header: JsonObject, arrays: Mapping[str, np.ndarray]) -> int:
        """Save a checkpoint; it is on the disk when this returns. One of the same step before is replaced.

        Checkpoints of later steps are of a course that was given up: they are set aside as `*.superseded`.

        Args:
            step: The step it belongs to, 0 or more.
            header: What else to keep, as JSON has it; NaN and infinities are kept too.
            arrays: By name; nobody changes them meanwhile.

        Returns:
            Bytes written.

        Raises:
            CheckpointError: It could not be written. Every checkpoint that was there is still there.
            TypeError: The header holds something that JSON has no form for.
        """
        if step < 0:
            raise ValueError(f"there is no step {step}")
        nbytes = write_file(self.path / f"step-{step:09d}.ckpt", header, arrays)
        try:
            reach("checkpoint.before-removal")
            self._make_room(step)
        except OSError as error:
            log.warning("old checkpoints in %s could not be removed: %s", self.path, error)
        return nbytes

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if there is none.

        Damaged ones are set aside as `*.damaged`, with a warning for each.

        Raises:
            CheckpointError: This user may not read the folder or a checkpoint in it.
        """
        try:
            steps = self._steps()
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint folder {self.path} cannot be read: {error.strerror or error}",
                "let this user read it, or choose another folder",
            ) from None
        for step in sorted(steps, reverse=True):
            path = steps[step]
            try:
                header, arrays = read_file(path)
            except CheckpointDamaged as error:
                log.warning("%s; falling back to the one before", error.message)
                self._set_aside(path, "damaged")
                continue
            return Checkpoint(step, header, arrays, path)
        return None

    def _steps(self) -> dict[int, Path]:
        """The checkpoints that are there, by step."""
        found = ((_NAME.fullmatch(entry.name), entry) for entry in self.path.iterdir())
        return {int(match[1]): entry for match, entry in found if match}

    def _make_room(self, step: int) -> None:
        steps = self._steps()
        for later in sorted(steps):
            if later > step:
                log.warning(
                    "%s is of a later step than %d, which has just been saved; keeping it aside", steps[later], step
                )
                self._set_aside(steps[later], "superseded")
        for old in sorted(earlier for earlier in steps if earlier <= step)[: -self._keep]:
            steps[old].unlink()

    def _set_aside(self, path: Path, why: str) -> None:
        """Rename a checkpoint so that it is none any more, over nothing that was set aside before."""
        aside = path.with_name(f"{path.name}.{why}")
        number = 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.name}-{number}.{why}")
        try:
            path.rename(aside)
        except OSError as error:
            log.warning("%s could not be renamed to %s: %s", path, aside.name, error.strerror)


def _make(path: Path) -> None:
    """Make a folder, and those above it, so that they survive a loss of power as their files do."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def _is_somebody_elses(process: int) -> bool:
    """Whether another process of this id is alive; this one has nothing half-written when it opens the folder."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
