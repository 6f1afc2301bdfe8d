"""Folders of runs: whole ones, and those that did not end well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pdl.errors import EXIT_USAGE, StartupError
from p2pdl.report.reading import folder_titles, read_run
from p2pdl.report.tables import differences_table
from p2pdl.report.verdict import as_json, missing_of, sentence, verdict_of
from tests.report.left_runs import NAMES, leave_run


def test_whole_run_is_told_in_one_sentence(tmp_path: Path) -> None:
    run = read_run(leave_run(tmp_path / "lab"), "lab")
    assert sentence(run) == (
        "3 nodes, all done; consensus accuracy 0.9500; 25 s; ms/batch median 100, p90 120; 60 MB received"
    )
    assert missing_of(run) == []
    found = verdict_of(run)
    assert (found.bytes_received, found.bytes_sent) == (60_000_000, 54_000_000)
    assert json.loads(json.dumps(as_json(run)))["nodes"][0]["steps"] == 200


def test_one_node_is_a_run_too(tmp_path: Path) -> None:
    run = read_run(leave_run(tmp_path / "lab") / "node2", "x")
    assert [node.name for node in run.nodes] == ["node2"] and run.cluster == "lab"
    assert verdict_of(run).accuracy == 0.95 and verdict_of(run).seconds == 20.0


def test_node_without_a_summary_is_reported_by_its_last_line(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    (folder / "node2" / "summary.json").unlink()
    (folder / "summary.json").unlink()
    run = read_run(folder, "lab")
    found = verdict_of(run)
    assert (found.nodes, found.done, found.bytes_received) == (3, 2, 60_000_000)
    assert found.accuracy == 0.95 and found.is_consensus, "the others have merged"
    assert [text.split(":")[0] for text in missing_of(run)] == ["there is no summary.json of the whole run", "node2"]
    assert as_json(run)["nodes"][1]["state"] == "no summary"


def test_summary_of_an_earlier_run_is_left_out(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    for name in NAMES:
        (folder / name / "summary.json").unlink()
    run = read_run(folder, "lab")
    assert run.consensus is None and verdict_of(run).done == 0
    assert "summary.json is an earlier run's, and was left out" in missing_of(run)


def test_node_whose_folder_is_elsewhere_is_named(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    for path in (folder / "node3").iterdir():
        path.unlink()
    (folder / "node3").rmdir()
    told = missing_of(read_run(folder, "lab"))
    assert told == ["node3: only the cluster's summary.json tells of it"]
    (folder / "summary.json").unlink()
    assert "node3: nothing of it is here" in missing_of(read_run(folder, "lab"))


def test_node_that_failed_is_named_with_the_reason(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    (folder / "node1" / "summary.json").write_text('{"node": "node1", "state": "failed", "error": "it died"}')
    told = json.loads((folder / "summary.json").read_text())
    told["nodes"][0] = {"node": "node1", "state": "failed", "error": "it died"}
    (folder / "summary.json").write_text(json.dumps(told))
    assert missing_of(read_run(folder, "lab")) == ["node1: failed: it died"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"nodes": 3'])
def test_files_that_are_damaged_are_as_if_not_there(tmp_path: Path, damage: str) -> None:
    folder = leave_run(tmp_path / "lab")
    for path in (folder / "summary.json", folder / "node1" / "summary.json", folder / "node1" / "config.json"):
        path.write_text(damage)
    run = read_run(folder, "lab")
    assert verdict_of(run).nodes == 3
    assert any("node1: no summary.json" in text for text in missing_of(run))
    assert "node1: no config.json" in missing_of(run)


@pytest.mark.parametrize("name", ["absent", "empty", "file"])
def test_folder_that_holds_no_run_is_an_error_with_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("text")
    with pytest.raises(StartupError) as caught:
        read_run(tmp_path / name, "x")
    assert caught.value.exit_code == EXIT_USAGE and "runs/<cluster>" in caught.value.remedy


def test_titles_tell_folders_apart_by_as_little_as_they_can() -> None:
    def titles(*paths: str) -> list[str]:
        return folder_titles([Path(path) for path in paths])

    assert titles("/a/runs/digits") == ["digits"]
    assert titles("/a/runs/digits", "/b/runs/digits") == ["a/digits", "b/digits"]
    assert titles("/a/runs/one", "/a/runs/two") == ["one", "two"]
    assert titles("/a/x", "/a/x") == ["x", "x (2)"]


def test_settings_in_which_runs_differ_are_found(tmp_path: Path) -> None:
    runs = [read_run(leave_run(tmp_path / name, seed=seed), name) for name, seed in (("one", 1), ("two", 2))]
    table = differences_table(runs, 12)
    assert table is not None
    assert table.rows == (("cluster.name", "one", "two"), ("train.seed", "1", "2"))
    assert differences_table(runs[:1], 12) is None
