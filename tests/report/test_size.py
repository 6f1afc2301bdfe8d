"""A long run of eight nodes, and thirty experiments: the report is there soon, and the page stays small."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from p2pdl.report.chart_pictures import draw_charts
from p2pdl.report.findings_page import findings_page
from p2pdl.report.found_folders import read_all
from p2pdl.report.page import page
from p2pdl.report.pictures import draw
from p2pdl.report.reading import read_run
from tests.report.left_findings import case, findings, leave_findings, line_chart
from tests.report.left_runs import leave_run, line

NODES = tuple(f"node{number}" for number in range(1, 9))
LINES = 20_000

LIMIT_NBYTES = 5_000_000
LIMIT_SECONDS = 60.0
"""Several times what it takes on two slow processors that others use as well."""


@pytest.mark.slow
def test_report_of_a_long_run_is_there_soon_and_small(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab", NODES, lines=2)
    text = "".join(json.dumps(line(number, "node1", NODES[1:])) + "\n" for number in range(1, LINES + 1))
    for name in NODES:
        (folder / name / "metrics.jsonl").write_text(text)
    begun = time.monotonic()
    run = read_run(folder, "lab")
    written = page([run], draw([run]), "A long run")
    assert time.monotonic() - begun < LIMIT_SECONDS
    assert [len(node.lines) for node in run.nodes] == [LINES] * len(NODES)
    assert len(written.encode()) < LIMIT_NBYTES


@pytest.mark.slow
def test_report_of_thirty_experiments_is_there_soon_and_small(tmp_path: Path) -> None:
    for number in range(30):
        charts = [line_chart(f"chart{place}", points=300, curves=5) for place in range(5)]
        cases = [case(place) for place in range(10)]
        leave_findings(tmp_path / f"{number}", findings(f"experiment_{number}", charts=charts, cases=cases))
    begun = time.monotonic()
    found = read_all([tmp_path])
    drawn = draw_charts(found.experiments)
    written = findings_page(found.experiments, found.missing, drawn, "Thirty experiments")
    assert time.monotonic() - begun < LIMIT_SECONDS
    assert len(drawn.pictures) == 150 and written.count("<svg") == 151
    assert len(written.encode()) < LIMIT_NBYTES
