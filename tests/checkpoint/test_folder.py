"""The folder of checkpoints: the newest whole one is found, the right ones are kept, nothing damaged is thrown away."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.errors import CheckpointError
from tests.checkpoint.samples import arrays_of, assert_newest, assert_same, checkpoints, without_privileges


def filled(path: Path, *steps: int, keep: int = 2) -> CheckpointFolder:
    folder = CheckpointFolder(path, keep)
    for step in steps:
        folder.save(step, {"step": step}, arrays_of(step))
    return folder


def names(*steps: int) -> list[str]:
    return [f"step-{step:09d}.ckpt" for step in steps]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


def test_newest_of_an_empty_folder_is_none(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "a" / "b")
    assert folder.newest() is None
    assert checkpoints(folder.path) == []


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_save_keeps_the_newest_ones(keep: int, tmp_path: Path) -> None:
    folder = filled(tmp_path, 10, 20, 30, 1_000_000_000, 1_000_000_001, keep=keep)
    assert checkpoints(tmp_path) == sorted(names(20, 30, 1_000_000_000, 1_000_000_001)[-keep:])
    newest = folder.newest()
    assert newest is not None
    assert newest.path == tmp_path / "step-1000000001.ckpt"
    assert_newest(folder, 1_000_000_001)


def test_save_removes_an_old_one_only_when_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path, 1, keep=1)
    there: list[list[str]] = []
    unlink = Path.unlink

    def noted(path: Path) -> None:
        there.append(checkpoints(tmp_path))
        unlink(path)

    monkeypatch.setattr(Path, "unlink", noted)
    folder.save(2, {"step": 2}, arrays_of(2))
    assert there == [names(1, 2)]
    assert checkpoints(tmp_path) == names(2)


def test_save_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    folder = filled(tmp_path, 1, 2)
    folder.save(2, {"step": 2, "again": True}, arrays_of(5))
    newest = folder.newest()
    assert newest is not None and newest.header["again"]
    assert_same(newest.arrays, arrays_of(5))
    assert checkpoints(tmp_path) == names(1, 2)


def test_save_returns_the_bytes_of_the_file(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert folder.save(7, {}, arrays_of(7)) == (tmp_path / names(7)[0]).stat().st_size


def test_save_of_an_earlier_step_sets_the_later_ones_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = filled(tmp_path, 100, 200)
    folder.save(150, {"step": 150}, arrays_of(150))
    assert checkpoints(tmp_path) == [*names(100, 150), "step-000000200.ckpt.superseded"]
    assert "step-000000200.ckpt is of a later step" in caplog.text
    assert_newest(folder, 150)


def test_save_that_cannot_remove_an_old_one_has_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = filled(tmp_path, 1, keep=1)

    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "unlink", refuse)
    folder.save(2, {"step": 2}, arrays_of(2))
    assert "old checkpoints in" in caplog.text and "Input/output error" in caplog.text
    assert_newest(folder, 2)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda path: os.truncate(path, 0), "it ends after 0 bytes"),
        (lambda path: os.truncate(path, 700), "does not fit into its 700 bytes"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "its arrays take"),
        (flip_a_bit, "has changed since it was written"),
        (lambda path: path.write_bytes(b"PK" + bytes(500)), "does not begin as a checkpoint"),
        (lambda path: (path.unlink(), path.mkdir()), "it cannot be read: Is a directory"),
    ],
)
def test_newest_falls_back_to_the_one_before_with_a_warning_and_keeps_the_damaged_one_aside(
    damage: object, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = filled(tmp_path, 1, 2)
    damage(tmp_path / names(2)[0])  # type: ignore[operator]
    assert_newest(folder, 1)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert f"{tmp_path / names(2)[0]} is damaged: " in warning.getMessage() and reason in warning.getMessage()
    assert checkpoints(tmp_path) == [*names(1), "step-000000002.ckpt.damaged"]
    caplog.clear()
    assert_newest(CheckpointFolder(tmp_path), 1)
    assert not caplog.records


def test_newest_with_all_damaged_is_none_with_a_warning_for_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = filled(tmp_path, 1, 2, 3, keep=3)
    for name in names(1, 2, 3):
        flip_a_bit(tmp_path / name)
    assert folder.newest() is None
    told = [re.search(r"step-\d+\.ckpt", record.getMessage())[0] for record in caplog.records]  # type: ignore[index]
    assert told == names(3, 2, 1)
    assert checkpoints(tmp_path) == [f"{name}.damaged" for name in names(1, 2, 3)]


def test_newest_sets_nothing_aside_over_what_was_set_aside_before(tmp_path: Path) -> None:
    for _ in range(3):
        folder = filled(tmp_path, 1)
        flip_a_bit(tmp_path / names(1)[0])
        assert folder.newest() is None
    assert checkpoints(tmp_path) == [f"step-000000001.ckpt{number}.damaged" for number in ("-2", "-3", "")]


def test_newest_takes_no_notice_of_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = filled(tmp_path, 5)
    for name in ("step-9.ckpt", "step-000000009.ckpt.damaged", "step-000000009.ckpt~", "xstep-000000009.ckpt", "notes"):
        (tmp_path / name).write_text("no checkpoint")
    (tmp_path / "step-٠٠٠٠٠٠٠٠٩.ckpt").write_text("no checkpoint")
    assert_newest(folder, 5)
    assert not caplog.records


def test_newest_that_cannot_be_set_aside_still_falls_back(
    public_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = filled(public_folder, 1, 2)
    flip_a_bit(public_folder / names(2)[0])
    public_folder.chmod(0o555)
    with without_privileges():
        assert_newest(folder, 1)
    assert "could not be renamed" in caplog.text
    assert checkpoints(public_folder) == names(1, 2)


def test_newest_that_this_user_may_not_read_is_an_error_and_stays(public_folder: Path) -> None:
    folder = filled(public_folder, 1, 2)
    (public_folder / names(2)[0]).chmod(0)
    with without_privileges(), pytest.raises(CheckpointError, match="2.ckpt cannot be read: Permission") as caught:
        folder.newest()
    assert "let this user read it" in caught.value.remedy
    assert checkpoints(public_folder) == names(1, 2)


def test_newest_in_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.path.rmdir()
    with pytest.raises(CheckpointError, match="checkpoints cannot be read: No such file"):
        folder.newest()


def test_folder_removes_what_dead_processes_and_this_one_have_left(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".step-000000002.ckpt.tmp-{process}" for process in (ended.pid, os.getpid(), 10**30)]
    alive = f".step-000000002.ckpt.tmp-{os.getppid()}"
    others = [".step-000000002.ckpt.tmp-", ".other.tmp-1", "step-000000002.ckpt.tmp-1"]
    for name in (*left, alive, *others):
        (tmp_path / name).write_bytes(b"half")
    folder = CheckpointFolder(tmp_path)
    assert checkpoints(tmp_path) == sorted([*names(1), alive, *others])
    assert_newest(folder, 1)


def test_folder_spares_what_a_process_of_another_user_may_be_writing(public_folder: Path) -> None:
    public_folder.chmod(0o777)
    (public_folder / ".step-000000002.ckpt.tmp-1").write_bytes(b"half")
    with without_privileges():
        CheckpointFolder(public_folder)
    assert checkpoints(public_folder) == [".step-000000002.ckpt.tmp-1"]


def test_folder_with_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "checkpoints"):
        with pytest.raises(CheckpointError, match=f"{path} cannot be written: (File exists|Not a directory)") as caught:
            CheckpointFolder(path)
        assert "choose a folder" in caught.value.remedy


def test_folder_that_this_user_may_not_write_is_an_error(public_folder: Path) -> None:
    for path in (public_folder, public_folder / "checkpoints"):
        public_folder.chmod(0o555)
        with without_privileges(), pytest.raises(CheckpointError, match=f"{path} cannot be written") as caught:
            CheckpointFolder(path)
        assert "choose a folder" in caught.value.remedy


def test_folder_keeps_one_checkpoint_at_least_and_no_negative_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep 0"):
        CheckpointFolder(tmp_path, keep=0)
    with pytest.raises(ValueError, match="no step -1"):
        CheckpointFolder(tmp_path).save(-1, {}, {})
