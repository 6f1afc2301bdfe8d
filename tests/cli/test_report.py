"""`p2pdl report`: what people see of runs, and the files that it writes."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import program
from tests.processes import ROOT
from tests.report.left_runs import leave_run


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["report", *map(str, arguments)])


def test_verdict_comes_first_and_the_nodes_below_it(tmp_path: Path) -> None:
    result = run(leave_run(tmp_path / "lab"))
    assert result.exit_code == 0
    first, *others = result.stdout.splitlines()
    assert first.startswith("lab: 3 nodes, all done; consensus accuracy 0.9500; 25 s; ms/batch median 100")
    rows = [line.split() for line in others]
    assert ["node2", "done", "0.9000", "0.9500", "0.200", "200", "100", "120", "20", "0", "20.0", "18.0"] in [
        row[:12] for row in rows
    ]


def test_several_runs_are_compared_under_their_titles(tmp_path: Path) -> None:
    one, two = leave_run(tmp_path / "one"), leave_run(tmp_path / "two", lines=4)
    result = run(one, two, "--title", "before")
    assert result.exit_code == 0
    rows = [line.split()[:3] for line in result.stdout.splitlines()]
    assert ["before", "gossip", "3/3"] in rows and ["two", "gossip", "3/3"] in rows
    assert ["before", "node1", "done"] in rows


def test_json_is_one_object_with_everything(tmp_path: Path) -> None:
    told = json.loads(run(leave_run(tmp_path / "lab"), "--json").stdout)
    (lab,) = told["runs"]
    assert told["files"] == []
    assert lab["accuracy"] == 0.95 and lab["bytes_received"] == 60_000_000
    assert lab["merges"]["counts"] == [[0, 20, 40], [20, 0, 40], [20, 40, 0]]
    assert lab["nodes"][2]["seconds_per_step"] == {"median": 0.1, "p90": 0.12}


def test_page_and_plots_are_written_where_they_should(tmp_path: Path) -> None:
    out, plots = tmp_path / "new" / "report.html", tmp_path / "plots"
    result = run(leave_run(tmp_path / "lab"), "--out", out, "--plots", plots)
    assert result.exit_code == 0 and f"wrote {out}" in result.stdout
    assert "<h1>Run lab</h1>" in out.read_text()
    assert {path.suffix for path in plots.iterdir()} == {".png", ".svg"}


def test_partial_run_is_reported_with_what_is_missing(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    (folder / "node1" / "summary.json").unlink()
    (folder / "summary.json").unlink()
    result = run(folder)
    assert result.exit_code == 0
    assert "3 nodes, 2 done" in result.stdout and "missing: node1: no summary.json" in result.stdout


@pytest.mark.parametrize(
    "arguments, told",
    [
        ((), "Missing argument"),
        (("nowhere",), "is no folder"),
        (("empty",), "holds no run"),
        (("lab", "--title", "a", "--title", "b"), "2 titles for 1 runs"),
        (("lab", "--out", "empty"), "is a folder"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    leave_run(tmp_path / "lab")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and told in " ".join(result.output.split())


def test_page_that_cannot_be_written_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(leave_run(tmp_path / "lab"), "--out", tmp_path / "file" / "report.html")
    assert result.exit_code == 1 and "cannot be written" in result.output and "->" in result.output


def test_without_matplotlib_there_are_tables_and_a_remedy_for_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leave_run(tmp_path / "lab")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(folder).exit_code == 0
    result = run(folder, "--out", tmp_path / "report.html")
    assert result.exit_code == 2 and "pip install 'p2pdl[report]'" in result.output
    assert not (tmp_path / "report.html").exists()


def test_lines_of_the_readme_work_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_run(tmp_path / "runs" / "digits")
    leave_run(tmp_path / "runs" / "adacomp")
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^p2pdl report (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        assert run(*shlex.split(line)).exit_code == 0, line
    assert list(tmp_path.glob("*.html"))
