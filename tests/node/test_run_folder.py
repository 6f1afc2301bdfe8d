"""A run's folder: new for each run, and what earlier ones left is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdl.config import load
from p2pdl.errors import EXIT_USAGE, RunDirectoryUnusable
from p2pdl.node.run_folder import create_run_folder, keep_earlier, prepare_node_folder, run_folder
from tests.pretended_clusters import configuration, write_configuration


def test_node_folder_is_empty_and_earlier_runs_are_kept_with_numbers(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=1)
    for run in range(3):
        folder = prepare_node_folder(cluster, "node1")
        assert folder == tmp_path / "runs" / "lab" / "node1"
        assert list(folder.iterdir()) == []
        (folder / "summary.json").write_text(f"run {run}")
    earlier = run_folder(cluster) / "earlier"
    assert sorted(path.name for path in earlier.iterdir()) == ["node1-1", "node1-2"]
    assert (earlier / "node1-1" / "summary.json").read_text() == "run 0"
    assert (earlier / "node1-2" / "summary.json").read_text() == "run 1"


def test_earlier_files_keep_their_endings(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "model.keras").write_text("")
        keep_earlier(tmp_path, [tmp_path / "model.keras", tmp_path / "not-there.json"])
    assert sorted(path.name for path in (tmp_path / "earlier").iterdir()) == ["model-1.keras", "model-2.keras"]


def test_relative_run_directory_counts_from_the_file_not_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = write_configuration(tmp_path / "cluster")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert create_run_folder(load(file)) == tmp_path / "cluster" / "runs" / "lab"


def test_run_directory_that_cannot_be_made_is_one_message_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(RunDirectoryUnusable, match="cannot be written: ") as caught:
        prepare_node_folder(configuration(tmp_path), "node1")
    assert "cluster.runs" in caught.value.remedy
    assert caught.value.exit_code == EXIT_USAGE
