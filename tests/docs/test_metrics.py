"""`docs/metrics.md` against what a real cluster leaves: every field of a line, of a link, and every span."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from p2pdl.node.environment import ENVIRONMENT_FILE
from p2pdl.node.live_figures import PHASES
from p2pdl.training.timeline import FILE_NAME, LIMIT_NBYTES
from tests.pretended_clusters import write_configuration
from tests.processes import ROOT

TEXT = (ROOT / "docs" / "metrics.md").read_text()
NAMES = ("node1", "node2")
TRACKS = ("trainer", "puller")
ONLY_NODE1 = "gossip: {topology: static, graph: {node1: [node2], node2: []}}\n"


def rows(title: str) -> list[list[list[str]]]:
    """The rows of every table whose first column has this title."""
    found = re.findall(rf"^\| {title} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", TEXT, re.MULTILINE)
    return [
        [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in table.splitlines()] for table in found
    ]


def fields(title: str) -> list[set[str]]:
    """The first column of each of these tables."""
    return [{row[0] for row in table} for table in rows(title)]


def run(folder: Path, *arguments: str, nodes: int = 2) -> Path:
    """Train to the end; the folder of the run."""
    file = write_configuration(
        folder, nodes=nodes, more="metrics: {interval: 0.1}\n" + (ONLY_NODE1 if nodes > 1 else "")
    )
    flags = [word for argument in arguments for word in ("--set", argument)]
    done = subprocess.run(
        [sys.executable, "-m", "p2pdl", "up", "--quiet", "--config", str(file), *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "lab"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes of which the first pulls from the second, which pulls from nobody."""
    folder = tmp_path_factory.mktemp("cluster")
    return run(folder, "train.profile=true", "train.steps=120", "compress.codec=int8", "gossip.overlap=false")


def lines(run_folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder / name / "metrics.jsonl").read_text().splitlines()]


def summary(run_folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_folder / name / "summary.json").read_text())
    return found


def spans(run_folder: Path, name: str) -> list[dict[str, Any]]:
    events = json.loads((run_folder / name / FILE_NAME).read_text())
    return [event for event in events if event["ph"] == "X"]


def test_every_line_has_the_fields_of_the_page_and_no_others(cluster: Path) -> None:
    alone, gossip = fields("field")
    for name in NAMES:
        for line in lines(cluster, name):
            assert line.keys() == alone | gossip
    [link] = fields("link")
    with_links = [line for line in lines(cluster, "node1") if line["links"]]
    assert all(line["links"].keys() == {"node2"} for line in with_links)
    assert with_links and all(line["links"]["node2"].keys() == link for line in with_links)
    assert all(line["links"] == {} for line in lines(cluster, "node2"))


def test_environment_is_what_the_page_lists(cluster: Path) -> None:
    [table] = rows("environment")
    described = {row[0]: row[1] for row in table}
    for name in NAMES:
        found = json.loads((cluster / name / ENVIRONMENT_FILE).read_text())
        assert found.keys() == described.keys()
        for part in ("versions", "machine"):
            assert set(re.findall("`(\\w+)`", described[part])) - {"null"} == found[part].keys()


def test_line_of_a_single_node_has_the_first_part(tmp_path: Path) -> None:
    alone, _ = fields("field")
    folder = run(tmp_path, "strategy=single", "train.steps=5", nodes=1)
    assert all(line.keys() == alone for line in lines(folder, "node1"))
    assert not (folder / "node1" / FILE_NAME).exists()


def test_figures_of_the_lines_hold_together(cluster: Path) -> None:
    puller, server = lines(cluster, "node1"), lines(cluster, "node2")
    for before, after in pairwise(puller):
        totals = [name for name in after if name.startswith("bytes") or name.endswith("_seconds")]
        assert len(totals) >= 7
        assert all(before[name] <= after[name] for name in totals)
    last = puller[-1]
    assert last["step"] == 120 and last["merges"] > 0
    assert (last["merged_from"], last["merged_codec"]) == ("node2", "int8")
    link = last["links"]["node2"]
    assert (last["merged_age"], last["merged_staleness"]) == (link["age"], link["staleness"])
    assert (link["state"], link["pulls"], link["codec_reason"]) == ("live", last["merges"], "as configured")
    assert link["mbit_per_second"] > 0
    # int8 of 563,722 parameters and padding, once for each merge at least.
    assert last["bytes_received"] > 563_722 * last["merges"]
    assert (server[-1]["bytes_received"], server[-1]["mbit_per_second_in"]) == (0, 0.0)
    # The server also answers those who ask how the node is.
    assert summary(cluster, "node2")["bytes_sent"] >= summary(cluster, "node1")["bytes_received"]
    assert server[-1]["mbit_per_second_out"] > 10 * last["mbit_per_second_out"]
    assert last["mbit_per_second_in"] > 10 * last["mbit_per_second_out"]
    # What the four phases take is at most the time there was, and all but a little of it.
    for line in (last, server[-1]):
        assert sum(line[f"{phase}_seconds"] for phase in ("compute", "wait")) < line["seconds"]
        assert sum(line[f"{phase}_seconds"] for phase in PHASES) > 0.7 * line["seconds"]


def test_spans_are_those_of_the_page(cluster: Path) -> None:
    [table] = rows("track")
    assert {row[0] for row in table} == set(TRACKS)
    named = {(TRACKS.index(row[0]) + 1, row[1].replace("NODE", "node2")) for row in table}
    # Without overlap each kind of span is there.
    assert {(span["tid"], span["name"]) for span in spans(cluster, "node1")} == named
    kinds = {span["name"] for span in spans(cluster, "node2")}
    assert {"compute", "publish", "evaluate"} <= kinds <= {name for _, name in named} - {"merge", "pull node2"}
    assert f"{LIMIT_NBYTES >> 20} MiB" in TEXT


def test_spans_add_up_to_the_summary(cluster: Path) -> None:
    for name in NAMES:
        found = spans(cluster, name)
        told = summary(cluster, name)

        def total(kind: str, found: list[dict[str, Any]] = found) -> float:
            return 1e-6 * sum(span["dur"] for span in found if span["name"] == kind)

        assert [span["args"]["step"] for span in found if span["name"] == "compute"] == list(range(1, 121))
        for phase in PHASES:
            assert total(phase) == pytest.approx(told[f"{phase}_seconds"], rel=0.02, abs=1e-3), phase
        pulls = [span for span in found if span["name"].startswith("pull")]
        # The pulls of the final merge are not among them.
        assert sum(span["args"]["bytes"] for span in pulls) <= told["bytes_received"]
        assert len(pulls) >= told["merges"]
