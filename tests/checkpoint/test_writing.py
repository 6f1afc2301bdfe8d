"""A save that fails at any place: what was there before is whole, nothing half-written stays, the message says why."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.checkpoint.reading import read_file
from p2pdl.checkpoint.writing import temporary_name, write_file
from p2pdl.errors import CheckpointError
from p2pdl.failpoints import NAMES, VARIABLE, switch
from tests.checkpoint.samples import (
    arrays_of,
    assert_newest,
    assert_same,
    checkpoints,
    temporary_files,
    without_privileges,
)
from tests.processes import ROOT

PLACES = [name for name in NAMES if name.startswith("checkpoint.")]
NEW_ONE_HAS_ITS_NAME = {"checkpoint.before-folder-sync", "checkpoint.before-removal"}

TWO_SAVES = """
import sys
from pathlib import Path
from p2pdl.checkpoint.folder import CheckpointFolder
from tests.checkpoint.samples import arrays_of
folder = CheckpointFolder(Path(sys.argv[1]))
for step in (1, 2):
    folder.save(step, {"step": step}, arrays_of(step))
    print("saved", step, flush=True)
"""


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    yield
    switch("")


def test_write_file_syncs_the_file_before_it_has_its_name_and_the_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    path = tmp_path / "x.ckpt"

    def noted_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        calls.append(f"sync {'folder' if stat.S_ISDIR(status.st_mode) else f'file of {status.st_size}'}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        assert (source, target) == (tmp_path / f".x.ckpt.tmp-{os.getpid()}", path)
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    nbytes = write_file(path, {}, arrays_of(1))
    assert calls == [f"sync file of {nbytes}", "rename", "sync folder"]
    assert path.stat().st_size == nbytes


@pytest.mark.parametrize("place", PLACES)
def test_save_killed_at_any_place_leaves_a_whole_checkpoint(place: str, tmp_path: Path) -> None:
    second = len(arrays_of(1)) + 2 if place == "checkpoint.before-array" else 2
    ended = subprocess.run(
        [sys.executable, "-c", TWO_SAVES, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), VARIABLE: f"{place}=kill*{second}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "saved 1\n"), ended.stderr
    assert len(temporary_files(tmp_path)) == (place not in NEW_ONE_HAS_ITS_NAME)
    folder = CheckpointFolder(tmp_path)
    assert temporary_files(tmp_path) == []
    assert_newest(folder, 2 if place in NEW_ONE_HAS_ITS_NAME else 1)
    folder.save(2, {"step": 2}, arrays_of(2))
    assert checkpoints(tmp_path) == ["step-000000001.ckpt", "step-000000002.ckpt"]
    assert_newest(folder, 2)


@pytest.mark.parametrize("place", sorted(set(PLACES) - {"checkpoint.before-removal"}))
def test_save_disk_full_at_any_place_says_so_and_leaves_the_previous(place: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(1, {"step": 1}, arrays_of(1))
    switch(f"{place}=enospc")
    with pytest.raises(CheckpointError, match="step-000000002.ckpt could not be written: No space left") as caught:
        folder.save(2, {"step": 2}, arrays_of(2))
    assert "make room on the disk" in caught.value.remedy and "MiB are free" in caught.value.remedy
    assert temporary_files(tmp_path) == []
    assert_same(read_file(tmp_path / "step-000000001.ckpt")[1], arrays_of(1))
    assert_newest(folder, 2 if place in NEW_ONE_HAS_ITS_NAME else 1)
    switch("")
    folder.save(3, {"step": 3}, arrays_of(3))
    assert checkpoints(tmp_path) == ["step-000000003.ckpt"]
    assert_newest(folder, 3)


@pytest.mark.parametrize("place", sorted(set(PLACES) - NEW_ONE_HAS_ITS_NAME))
def test_save_of_the_same_step_that_fails_leaves_the_one_that_was_there(place: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1}, arrays_of(1))
    switch(f"{place}=enospc")
    with pytest.raises(CheckpointError):
        folder.save(1, {"step": 1, "other": True}, arrays_of(7))
    assert_newest(folder, 1)


@pytest.mark.parametrize("place", sorted(set(PLACES) - NEW_ONE_HAS_ITS_NAME))
def test_save_that_fails_in_an_unforeseen_way_leaves_nothing_half_written(place: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1}, arrays_of(1))
    switch(f"{place}=raise")
    with pytest.raises(RuntimeError, match="is switched on"):
        folder.save(2, {"step": 2}, arrays_of(2))
    assert checkpoints(tmp_path) == ["step-000000001.ckpt"]
    assert_newest(folder, 1)


def test_save_whose_header_is_no_json_leaves_nothing_half_written(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1}, arrays_of(1))
    with pytest.raises(TypeError):
        folder.save(2, {"step": object()}, arrays_of(2))
    assert checkpoints(tmp_path) == ["step-000000001.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_save_on_a_disk_that_is_really_full_leaves_the_previous(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1}, arrays_of(1))
    (tmp_path / temporary_name("step-000000002.ckpt")).symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device"):
        folder.save(2, {"step": 2}, arrays_of(2))
    assert checkpoints(tmp_path) == ["step-000000001.ckpt"]
    assert_newest(folder, 1)


def test_save_that_the_system_cuts_off_in_the_middle_of_an_array_leaves_the_previous(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1}, arrays_of(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_001, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            folder.save(2, {"step": 2}, {"large": np.ones(1_000_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints(tmp_path) == ["step-000000001.ckpt"]
    assert_newest(folder, 1)


def test_save_into_a_folder_that_has_become_read_only_says_so(public_folder: Path) -> None:
    folder = CheckpointFolder(public_folder)
    folder.save(1, {"step": 1}, arrays_of(1))
    public_folder.chmod(0o555)
    with without_privileges(), pytest.raises(CheckpointError, match="Permission denied") as caught:
        folder.save(2, {"step": 2}, arrays_of(2))
    assert "let this user write to" in caught.value.remedy
    assert checkpoints(public_folder) == ["step-000000001.ckpt"]
    assert_newest(folder, 1)


def test_save_into_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    shutil.rmtree(folder.path)
    with pytest.raises(CheckpointError, match="No such file or directory") as caught:
        folder.save(1, {}, {})
    assert "make the folder" in caught.value.remedy


def test_save_where_something_else_has_the_name_says_so(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    (tmp_path / "step-000000001.ckpt" / "inside").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="Is a directory"):
        folder.save(1, {}, {})
    assert checkpoints(tmp_path) == ["step-000000001.ckpt"]
