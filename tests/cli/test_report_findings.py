"""`p2pdl report` of experiments' findings: what people see of them, and the files that it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import program
from p2pdl.report.findings import as_json
from tests.report.left_findings import findings, leave_findings, leave_several
from tests.report.left_runs import leave_run


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["report", *map(str, arguments)])


def test_claims_are_counted_listed_and_what_does_not_hold_is_spelled_out(tmp_path: Path) -> None:
    result = run(leave_several(tmp_path / "small"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "5 claims: 1 holds, 1 holds in part, 1 does not hold, 1 is shown, 1 is unfinished."
    rows = [line for line in lines if "0.9749" in line]
    for row, (verdict, name) in zip(
        rows,
        [
            *(("shown", "d_shown"), ("holds in part", "b_part"), ("does not hold", "c_not")),
            *(("unfinished", "e_open"), ("holds", "a_last")),
        ],
        strict=True,
    ):
        assert row.strip().startswith(verdict) and f" {name} " in row and f"what {name} found, 0.9761" in row
    assert "does not hold: b_part: bytes until 0.97 against float32: wanted <= 1/20, found 1/14" in lines
    assert "missing: e_open: ring, seed 1: failed: no space left on device -> make room" in lines
    assert "missing: e_open: ring, seed 2: not run yet" in lines


def test_json_is_one_object_with_all_findings(tmp_path: Path) -> None:
    folder = leave_several(tmp_path / "small")
    told = json.loads(run(folder, "--json").stdout)
    assert told["missing"] == told["files"] == []
    assert [one["verdict"] for one in told["experiments"]] == [
        *("shown", "holds in part", "does not hold", "unfinished", "holds")
    ]
    last = told["experiments"][-1]
    assert last == {"folder": str(folder / "a"), "verdict": "holds", **as_json(findings("a_last", 9))}


def test_page_and_pictures_are_written_where_they_should(tmp_path: Path) -> None:
    out, plots = tmp_path / "new" / "report.html", tmp_path / "plots"
    result = run(leave_findings(tmp_path / "a", findings("quarters")), "--out", out, "--plots", plots)
    assert result.exit_code == 0 and f"wrote {out}" in result.stdout
    assert "<h1>The title of quarters</h1>" in out.read_text()
    names = [f"quarters-{chart}" for chart in ("loss", "steps", "traffic")]
    assert sorted(path.name for path in plots.iterdir()) == [
        f"{name}.{ending}" for name in names for ending in ("png", "svg")
    ]
    for path in plots.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else b"<?xml")


def test_title_is_the_heading_of_the_page(tmp_path: Path) -> None:
    folder, out = leave_several(tmp_path / "small"), tmp_path / "report.html"
    assert run(folder, "--out", out, "--title", "All of <it>").exit_code == 0
    assert "<h1>All of &lt;it&gt;</h1>" in out.read_text()
    result = run(folder, "--title", "a", "--title", "b")
    assert result.exit_code == 2 and "give it once" in result.output


def test_damaged_file_is_reported_beside_the_others(tmp_path: Path) -> None:
    folder, out = leave_several(tmp_path / "small"), tmp_path / "report.html"
    (folder / "c" / "findings.json").write_text("{")
    result = run(folder, "--out", out)
    assert result.exit_code == 0 and "4 claims" in result.stdout
    assert f"missing: {folder / 'c' / 'findings.json'} is damaged" in result.stdout
    assert "What is missing" in out.read_text()


def test_runs_and_findings_together_are_exit_code_2(tmp_path: Path) -> None:
    result = run(leave_run(tmp_path / "lab"), leave_several(tmp_path / "small"))
    assert result.exit_code == 2 and "one kind at a time" in result.output


def test_folder_with_neither_says_what_to_name(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert "holds no run" in told and "runs/<cluster>" in told and "runs/experiments/small" in told


def test_without_matplotlib_there_are_tables_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = leave_several(tmp_path / "small")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(folder).exit_code == 0 and run(folder, "--json").exit_code == 0
    result = run(folder, "--out", tmp_path / "report.html")
    assert result.exit_code == 2 and "pip install 'p2pdl[report]'" in result.output
