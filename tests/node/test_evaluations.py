"""Accuracy while real nodes train: in their lines and status, over a break, and at work for a parameter server."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from p2pdl.failpoints import VARIABLE
from p2pdl.node.environment import ENVIRONMENT_FILE
from tests.node.clusters import START_SECONDS, Lab, make_lab, node
from tests.node.test_parameter_servers import make_parameter_lab
from tests.processes import wait_until

EVERY = 0.3
STEPS = 300

SLOW_STEPS = {VARIABLE: "trainer.step=pad:0.01"}
"""Makes a run last for three seconds at least."""


def lines_of(lab: Lab, name: str) -> list[dict[str, Any]]:
    """The whole lines that a node has written by now."""
    path = lab.folder / "runs" / "lab" / name / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def evaluated(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with an accuracy, one for each step."""
    return list({line["step"]: line for line in lines if line["test_accuracy"] is not None}.values())


def training_seconds(line: dict[str, Any]) -> float:
    """What a reader is told to reckon."""
    return float(line["seconds"] - line["evaluation_seconds"])


def check_lines(lab: Lab, name: str) -> dict[str, Any]:
    """That a node of a whole run was evaluated when it should be; the line of the last evaluation."""
    lines = lines_of(lab, name)
    for before, after in itertools.pairwise(lines):
        assert before["evaluation_seconds"] <= after["evaluation_seconds"]
        assert training_seconds(before) <= training_seconds(after) + 0.002
    found = evaluated(lines)
    first, *between, last = found
    assert (first["step"], first["evaluation_seconds"], last["step"]) == (0, 0.0, STEPS)
    assert first["seconds"] < 2.0 and first["train_loss"] is None
    # Each comes after so many seconds of training or more, and not much later.
    assert 5 <= len(between) <= training_seconds(last) / EVERY
    assert all(math.isfinite(line["test_loss"]) for line in found)
    assert 0.0 <= first["test_accuracy"] < 0.4 < last["test_accuracy"] <= 1.0
    assert any(line["test_accuracy"] is None and line["test_loss"] is None for line in lines)
    summary = lab.summary(name)
    assert summary["evaluation_seconds"] == pytest.approx(lines[-1]["evaluation_seconds"], abs=0.001)
    assert 0.0 < summary["evaluation_seconds"] < summary["seconds"]
    # No step has an evaluation in it: many are as long as they were made, and the time of all is that without them.
    steps = summary["compute_seconds"] + summary["exchange_seconds"]
    assert steps <= summary["seconds"] - summary["evaluation_seconds"] + 0.1
    return last


def test_accuracy_of_gossiping_nodes_is_in_their_lines_and_ends_as_their_summaries_say(tmp_path: Path) -> None:
    metrics = {"interval": 0.1, "evaluate_every": EVERY}
    lab = make_lab(tmp_path, 2, train={"steps": STEPS}, metrics=metrics)
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node(lab, name, **SLOW_STEPS)) for name in lab.addresses]

        def accuracy_is_told() -> bool:
            status = lab.status("node1")
            return status is not None and isinstance(status.figures.get("test_accuracy"), float)

        assert wait_until(accuracy_is_told, START_SECONDS)
        assert [it.wait() for it in nodes] == [0, 0]
    for name in lab.addresses:
        last = check_lines(lab, name)
        # The last exchange and the final merge come after it.
        assert last["test_accuracy"] == pytest.approx(lab.summary(name)["before_final_merge"]["test_accuracy"], abs=0.1)
        found = json.loads((lab.folder / "runs" / "lab" / name / ENVIRONMENT_FILE).read_text())
        assert found["versions"]["tensorflow"] and isinstance(found["gpus"], list)


def test_accuracy_of_a_node_alone_ends_exactly_as_its_summary_says(tmp_path: Path) -> None:
    metrics = {"interval": 0.1, "evaluate_every": EVERY, "evaluation_samples": 200}
    lab = make_lab(tmp_path, 1, train={"steps": STEPS}, metrics=metrics, strategy="single")
    with node(lab, "node1", **SLOW_STEPS) as alone:
        assert alone.wait() == 0
    last, summary = check_lines(lab, "node1"), lab.summary("node1")
    assert (last["test_accuracy"], last["test_loss"]) == (summary["test_accuracy"], summary["test_loss"])


def test_time_of_evaluations_goes_with_that_of_the_training_over_a_break(tmp_path: Path) -> None:
    lab = make_lab(
        tmp_path,
        1,
        train={"steps": 10_000_000},
        strategy="single",
        metrics={"interval": 0.1, "evaluate_every": 0.1},
        checkpoint={"every": 0.2},
    )

    def of_trainer(restarts: int) -> list[dict[str, Any]]:
        return [line for line in lines_of(lab, "node1") if line["trainer_restarts"] == restarts]

    with node(lab, "node1") as alone:
        assert wait_until(
            lambda: any(line["checkpoints"] > 2 and len(evaluated(of_trainer(0))) > 3 for line in of_trainer(0)),
            START_SECONDS,
        )
        os.kill(alone.children()["trainer"], signal.SIGKILL)
        assert wait_until(lambda: len(evaluated(of_trainer(1))) > 3, START_SECONDS)
        alone.signal(signal.SIGINT)
        assert alone.wait() == 130
    first, second = of_trainer(0), of_trainer(1)
    assert evaluated(first)[0]["step"] == 0 and evaluated(second)[0]["step"] > 0
    for lines in (first, second):
        assert all(0.0 <= line["evaluation_seconds"] <= line["seconds"] for line in lines)
        assert lines[0]["seconds"] < 5.0
    summary = lab.summary("node1")
    before = summary["evaluation_seconds"] - second[-1]["evaluation_seconds"]
    # What the checkpoint knew of; the first trainer has gone on for a little while.
    assert 0.0 < before <= first[-1]["evaluation_seconds"] + 0.2
    assert summary["evaluation_seconds"] < summary["seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("server", [{"policy": "bsp"}, {"policy": "asp", "range": "1"}], ids=["all", "range"])
def test_worker_that_evaluates_for_longer_than_its_lease_keeps_it(tmp_path: Path, server: dict[str, Any]) -> None:
    lab = make_parameter_lab(
        tmp_path, 2, {**server, "lease": 5.0}, train={"steps": 60}, metrics={"evaluate_every": 3600}
    )
    # Three batches, once before the first step and once after the last one.
    slow = {VARIABLE: "trainer.evaluate=sleep:2.5"}
    with contextlib.ExitStack() as stack:
        nodes = {name: stack.enter_context(node(lab, name, **slow)) for name in lab.addresses}
        assert {name: it.wait() for name, it in nodes.items()} == dict.fromkeys(nodes, 0)
    assert lab.summary("server1")["lapsed"] == 0
    for name in ("node1", "node2"):
        assert lab.summary(name)["exchange_failures"] == {}
        assert [line["step"] for line in evaluated(lines_of(lab, name))] == [0, 60]
        assert lab.summary(name)["evaluation_seconds"] >= 3 * 2.5
    found = json.loads((lab.folder / "runs" / "lab" / "server1" / ENVIRONMENT_FILE).read_text())
    assert found["versions"]["p2pdl"] and "gpus" not in found
