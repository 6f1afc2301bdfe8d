"""`p2pdl status` and `p2pdl check --connect` beside two real nodes: what they say is what `docs/metrics.md` says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2pdl.cli import program
from tests.node.clusters import START_SECONDS, Lab, make_lab, node
from tests.processes import ROOT, wait_until

FIELD_TABLE = re.compile(r"^\| peer \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", re.MULTILINE)
DEATH_SECONDS = 60.0
"""Far more than the preset `local` takes, so that a busy machine is no failure."""


def documented() -> set[str]:
    """The keys of a peer's row, as the page lists them."""
    [table] = FIELD_TABLE.findall((ROOT / "docs" / "metrics.md").read_text())
    return {name for line in table.splitlines() for name in re.findall("`([^`]+)`", line.split(" | ")[0])}


def status_of_first(lab: Lab) -> dict[str, Any]:
    """What a status says of node1, knowing its address alone; empty while it does not answer."""
    result = CliRunner().invoke(program, ["status", "--address", lab.addresses["node1"], "--json"])
    if not result.stdout:
        return {}
    first: dict[str, Any] = json.loads(result.stdout)["nodes"][0]
    assert first["name"] == "node1"
    return first


def row_of(lab: Lab, peer: str) -> dict[str, Any]:
    """What node1 says of a peer; empty if nothing."""
    return next((row for row in status_of_first(lab).get("peers", ()) if row["name"] == peer), {})


@pytest.mark.slow
def test_status_and_check_see_a_running_cluster(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, 2, train={"steps": 10_000_000}, checkpoint={"every": 0})
    with node(lab, "node1"):
        with node(lab, "node2"):
            assert wait_until(lambda: row_of(lab, "node2").get("state") == "live", 2 * START_SECONDS)
            row = row_of(lab, "node2")
            assert row.keys() == documented()
            assert (row["member"], row["member_error"], row["address"]) == ("alive", "", lab.addresses["node2"])
            assert row["since"] > 0 and row["pulls"] > 0
            assert status_of_first(lab)["figures"]["members_probes"] > 0

            checked = CliRunner().invoke(program, ["check", "--connect", "--config", str(lab.file), "--json"])
            found = json.loads(checked.stdout)["connections"]
            assert checked.exit_code == 0, found
            assert [step["ok"] for step in found["peers"][0]["steps"]] == [True] * 10
            assert found["peers"][0]["training"]["state"] == "training"
            assert found["own"]["steps"][1]["detail"] == "node1 runs already and listens there"
            assert [step["ok"] for step in found["own"]["steps"]] == [True] * 5
        assert wait_until(lambda: row_of(lab, "node2").get("member") == "dead", DEATH_SECONDS)
        row = row_of(lab, "node2")
        assert row["member_error"] and row["since"] >= 0
        shown = CliRunner().invoke(program, ["status", "--config", str(lab.file)]).stdout
        assert re.search(r"^node1: +node2 is dead for \d", shown, re.MULTILINE)
