"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2pdl import files


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that turns out to be full when a file is to reach it."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fail)


def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content in ("one", "two"):
        files.replace(path, content)
        assert path.read_text() == content and list(tmp_path.iterdir()) == [path]


def test_permissions_are_the_users_own_unless_they_are_given(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.replace(tmp_path / "open", "")
        files.replace(tmp_path / "secret", "", 0o600)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("open", "secret")] == [0o640, 0o600]


@pytest.mark.usefixtures("full")
def test_a_full_disk_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("one")
    with pytest.raises(OSError, match="No space left"):
        files.replace(path, "two")
    with pytest.raises(OSError, match="No space left"), files.replacing(path) as fresh:
        fresh.write_text("half of two")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_cut_off_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("one")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as fresh:
        assert fresh.suffix == ".keras"
        fresh.write_text("half of two")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]
