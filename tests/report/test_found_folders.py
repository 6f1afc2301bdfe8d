"""Folders of findings: which are meant, their order, and that a damaged file does not hide the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdl.errors import StartupError
from p2pdl.report.found_folders import are_findings, read_all
from tests.report.left_findings import findings, leave_findings, leave_several
from tests.report.left_runs import leave_run


def test_experiments_are_in_the_order_of_their_ranks_then_names(tmp_path: Path) -> None:
    folder = leave_several(tmp_path / "small")
    leave_findings(folder / "f", findings("a_first", 1))
    found = read_all([folder])
    assert [one.name for one in found.experiments] == ["a_first", "d_shown", "b_part", "c_not", "e_open", "a_last"]
    assert [path.name for path in found.folders] == ["f", "d", "b", "c", "e", "a"]
    assert found.missing == []


def test_folder_of_one_experiment_may_be_named_and_no_file_counts_twice(tmp_path: Path) -> None:
    folder = leave_several(tmp_path / "small")
    assert [one.name for one in read_all([folder / "b"]).experiments] == ["b_part"]
    assert len(read_all([folder, folder / "b", tmp_path / "small" / ".." / "small"]).experiments) == 5


def test_what_an_experiment_leaves_besides_is_none_of_the_experiments(tmp_path: Path) -> None:
    folder = leave_findings(tmp_path / "a", findings("a"))
    leave_findings(folder / "left", findings("not this one"))
    assert [one.name for one in read_all([folder]).experiments] == ["a"]


def test_damaged_file_is_named_and_does_not_hide_the_others(tmp_path: Path) -> None:
    folder = leave_several(tmp_path / "small")
    (folder / "c" / "findings.json").write_text('{"version": 1')
    (folder / "d" / "findings.json").write_text('{"what": "alien"}')
    found = read_all([folder])
    assert len(found.experiments) == 3
    damaged, alien = found.missing
    assert str(folder / "c" / "findings.json") in damaged and "is damaged" in damaged
    assert str(folder / "d" / "findings.json") in alien and "holds no findings" in alien


def test_if_every_file_is_damaged_there_is_no_report(tmp_path: Path) -> None:
    leave_findings(tmp_path / "a", findings())
    (tmp_path / "a" / "findings.json").write_text("[")
    with pytest.raises(StartupError, match="is damaged"):
        read_all([tmp_path])


def test_runs_and_findings_are_told_apart_and_not_reported_together(tmp_path: Path) -> None:
    run, small = leave_run(tmp_path / "lab"), leave_several(tmp_path / "small")
    assert are_findings([small]) and are_findings([small / "a", small / "b"])
    assert not are_findings([run]) and not are_findings([tmp_path / "nowhere"])
    with pytest.raises(StartupError, match="one kind at a time"):
        are_findings([run, small])


def test_folder_of_several_sizes_is_refused_with_their_folders(tmp_path: Path) -> None:
    leave_several(tmp_path / "experiments" / "small")
    leave_several(tmp_path / "experiments" / "smoke")
    with pytest.raises(StartupError) as raised:
        are_findings([tmp_path / "experiments"])
    small, smoke = tmp_path / "experiments" / "small", tmp_path / "experiments" / "smoke"
    assert raised.value.remedy == f"name one of {small}, {smoke}"
