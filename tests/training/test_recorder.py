"""What a run writes down while it goes on: a line each interval, and no word about the same trouble twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pdl.clock import VirtualClock
from p2pdl.training.recorder import Recorder


def make(path: Path) -> Recorder:
    return Recorder(path, 1.0, 100, VirtualClock())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_full_disk_costs_lines_and_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = make(path)
    recorder.write_line({"step": 1})
    aside = path.rename(tmp_path / "aside")
    path.symlink_to("/dev/full")
    for step in (2, 3):
        recorder.write_line({"step": step})
    path.unlink()
    aside.rename(path)
    for step in (4, 5):
        recorder.write_line({"step": step})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 4, 5]
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write {path} (No space left on device); training goes on without it"
    ]


def test_half_a_line_of_a_process_that_was_killed_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    make(path).write_line({"step": 2})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
