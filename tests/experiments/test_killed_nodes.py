"""The experiment of killed nodes: what it configures, its rows against observations made by hand, and a small run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import killed_nodes
from p2pdl.config import load
from tools.storm.observations import Ending, Observations, Stop
from tools.storm.schedule import round_robin


def seen(**changes: Any) -> Observations:
    """Two nodes of which each was killed once, and that have done well."""
    done = Ending(0, "done", 100, 0.97, ("node1", "node2"))
    lines = [{"time": float(time), "step": time} for time in (*range(10), *range(20, 30))]
    what: dict[str, Any] = {
        "lines": {"node1": lines, "node2": lines},
        "endings": {"node1": done, "node2": done},
        "stops": [Stop(node, 9.5, 11.0, lost=True) for node in ("node1", "node2")],
    }
    return Observations(100, **{**what, **changes})


def row(observed: Observations, reference: float | None = 0.97) -> dict[str, Any]:
    kills = round_robin(0, ["node1", "node2"], every=10.0, rounds=1, seconds=1.0)
    return killed_nodes.row("killed", kills, observed, 60.0, 1.0, reference)


def test_run_that_keeps_the_claim_holds() -> None:
    found = row(seen())
    assert found["broken"] == [] and found["kills"] == 2 and found["merged"] == 2
    assert found["return_seconds"] == [9.0, 9.0]
    # From 9.5 s on it was dead: what is left of the way from 9 s to 20 s is half a second.
    assert found["longest_gap_seconds"] == 1.0
    json.dumps(found)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"stops": [Stop("node1", 9.5, 11.0, lost=True)]}, "node2 was done before it was to be killed"),
        ({"left": ["processes [7]"]}, "left: processes [7]"),
        ({"endings": {"node1": Ending(1, "failed", 40), "node2": seen().endings["node2"]}}, "exit code 1"),
        ({"wrong": ["node2 ended by itself"]}, "by itself"),
        ({"endings": {"node1": Ending(0, "done", 100), "node2": Ending(0, "done", 100)}}, "there is no consensus"),
    ],
)
def test_run_that_breaks_the_claim_says_how(changes: dict[str, Any], words: str) -> None:
    assert any(words in line for line in row(seen(**changes))["broken"])


@pytest.mark.parametrize("reference, holds", [(0.9749, True), (0.9751, False), (None, True)])
def test_consensus_may_lie_half_a_point_lower(reference: float | None, holds: bool) -> None:
    assert (row(seen(), reference)["broken"] == []) is holds


def test_configuration_is_accepted(tmp_path: Path) -> None:
    plan = killed_nodes.planned(killed_nodes.parse(["--quick"]))
    nodes = [{"name": name, "address": f"127.0.0.1:{7100 + n}"} for n, name in enumerate(plan.nodes)]
    file = tmp_path / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "killed"}, "nodes": nodes, **plan.sections}))
    configuration = load(file)
    assert configuration.train.steps == plan.steps and configuration.checkpoint.every == 1


@pytest.mark.parametrize("words", [["--nodes", "1"], ["--every", "0"], ["--rounds", "0"]])
def test_senseless_numbers_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        killed_nodes.parse(words)


def test_table_says_what_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    killed_nodes.show([row(seen(), None), row(seen(left=["the file a.tmp"]), 0.9)])
    said = capsys.readouterr().out
    assert "+7.00" in said and "does not hold" in said and "killed: left: the file a.tmp" in said


@pytest.mark.slow
def test_small_run_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert killed_nodes.main(["--quick", "--json"]) == 0
    undisturbed, killed = json.loads(capsys.readouterr().out)["rows"]
    assert (undisturbed["kills"], killed["kills"]) == (0, 2)
    # The few test images of digits say little about accuracy.
    assert [line for line in killed["broken"] if "points" not in line] == []
