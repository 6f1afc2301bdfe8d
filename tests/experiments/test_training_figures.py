"""Figures of a run, against lines of metrics that were made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.training_figures import links, node_figures, ratios, read_lines, step_seconds


def lines(start: float, seconds: float, steps: int) -> list[dict[str, float]]:
    """A line after each step of one length."""
    return [{"time": start + seconds * step, "step": step} for step in range(1, steps + 1)]


def test_every_step_after_the_first_ones_counts_while_all_nodes_train():
    found = step_seconds({"node1": lines(0.0, 1.0, 10), "node2": lines(0.0, 2.0, 10)})
    # node2 has done three steps at 6.0, node1 is done at 10.0.
    assert found == {"node1": [1.0] * 4, "node2": [2.0] * 2}


def test_steps_between_two_lines_count_with_their_mean():
    sparse = [{"time": 0.0, "step": 3}, {"time": 6.0, "step": 7}, {"time": 6.5, "step": 7}, {"time": 8.0, "step": 8}]
    assert step_seconds({"node1": sparse}) == {"node1": [1.5] * 4 + [1.5]}


@pytest.mark.parametrize("late", [[], lines(0.0, 1.0, 2), lines(100.0, 1.0, 10)])
def test_nodes_that_have_not_trained_side_by_side_have_no_steps(late):
    assert step_seconds({"node1": lines(0.0, 1.0, 10), "node2": late}) == {"node1": [], "node2": []}


def test_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n')
    assert read_lines(path) == [{"step": 1}]


def link(codec: str, reason: str, pulls: int) -> dict[str, object]:
    return {"codec": codec, "codec_reason": reason, "mbit_per_second": 8.0, "pulls": pulls, "state": "live"}


def test_codecs_of_a_link_are_named_in_the_order_of_their_first_use():
    seen = ["int8", "int8", "top-k:0.1:int8", "int8", "bfloat16"]
    told = [{"links": {"node2": link(codec, f"reason {n}", n)}} for n, codec in enumerate(seen)]
    told.insert(0, {"links": {}})
    told[3]["links"]["node3"] = link("int8", "fits", 1)
    found = links(told)
    assert found["node2"] == {
        "codecs": ["int8", "top-k:0.1:int8", "bfloat16"],
        "codec": "bfloat16",
        "reason": "reason 4",
        "mbit_per_second": 8.0,
        "pulls": 4,
    }
    assert found["node3"]["codecs"] == ["int8"]


def test_row_of_a_node_counts_every_pull_once_and_spreads_the_exchange_over_the_steps():
    summary = {
        "node": "node1",
        "steps": 10,
        "merges": 5,
        "unchanged": 2,
        "busy": 3,
        "exchange_failures": {"timeout": 1, "digest": 1},
        "wait_seconds": 0.0,
        "publish_seconds": 0.3,
        "merge_seconds": 0.2,
        "bytes_received": 1000,
        "bytes_sent": 900,
    }
    seconds = np.linspace(1.0, 2.0, 11).tolist()
    row = node_figures(seconds, [], summary)
    assert row["pulls"] == 12
    assert row["publish_and_merge_seconds_per_step"] == pytest.approx(0.05)
    assert (row["median_step_seconds"], row["p90_step_seconds"]) == (pytest.approx(1.5), pytest.approx(1.9))
    assert (row["steps_counted"], row["links"]) == (11, {})
    json.dumps(row)


def run(number: int, mbit: float | None, *medians: float) -> dict[str, object]:
    return {"round": number, "mbit": mbit, "nodes": [{"median_step_seconds": median} for median in medians]}


def test_each_rate_is_compared_with_the_run_without_a_limit_of_its_own_round():
    runs = [run(1, None, 1.0, 3.0), run(1, 300.0, 2.2, 2.2), run(1, 50.0, 4.0, 4.0), run(2, None, 4.0, 4.0)]
    runs += [run(2, 300.0, 4.0, 4.0), run(2, 50.0, 2.0, 2.0)]
    found = ratios(runs)
    assert found == {300.0: [pytest.approx(1.1), 1.0], 50.0: [2.0, 0.5]}
