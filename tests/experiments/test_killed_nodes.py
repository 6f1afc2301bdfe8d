"""The experiment of killed nodes: what it configures, and its figures against observations made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import killed_nodes
from experiments.harness.experiment import Size
from experiments.killed_nodes import EXPERIMENT, KILLED, UNDISTURBED, conclude
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


def found(observed: Observations) -> dict[str, Any]:
    return killed_nodes.figures(round_robin(0, ["node1", "node2"], every=10.0, rounds=1, seconds=1.0), observed)


def test_run_that_keeps_the_claim_holds() -> None:
    figures = found(seen())
    assert figures["broken"] == [] and figures["kills"] == 2 and figures["merged"] == 2
    assert figures["return_seconds"] == [9.0, 9.0]
    # From 9.5 s on it was dead: what is left of the way from 9 s to 20 s is half a second.
    assert figures["longest_gap_seconds"] == 1.0
    assert figures["curves"]["node1"]["step"][-1] == 29
    json.dumps(figures)


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
    figures = found(seen(**changes))
    assert any(words in line for line in figures["broken"])
    done = conclude(Size.SMALL, {KILLED: figures})
    assert any(words in note for note in done.notes)
    assert next(one for one in done.promises if one.what.startswith("what did not go")).holds is False


@pytest.mark.parametrize("reference, holds", [(0.9749, True), (0.9751, False), (None, None)])
def test_consensus_may_lie_half_a_point_lower(reference: float | None, holds: bool | None) -> None:
    results = {KILLED: found(seen())}
    if reference is not None:
        results[UNDISTURBED] = {**found(seen(stops=[])), "accuracy": reference}
    cost, merged, kills, broken = conclude(Size.SMALL, results).promises
    assert cost.holds is holds and broken.holds
    # Two nodes, where eight are wanted.
    assert merged.holds is False and kills.holds is False


def test_configuration_is_accepted(tmp_path: Path) -> None:
    [case] = EXPERIMENT.cases(Size.SMOKE)
    plan = case.settings["plan"]
    nodes = [{"name": name, "address": f"127.0.0.1:{7100 + n}"} for n, name in enumerate(plan["nodes"])]
    file = tmp_path / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "killed"}, "nodes": nodes, **plan["sections"]}))
    configuration = load(file)
    assert configuration.train.steps == 600 and configuration.checkpoint.every == 1
    assert len({case.digest for case in EXPERIMENT.cases(Size.SMALL)}) == 2
