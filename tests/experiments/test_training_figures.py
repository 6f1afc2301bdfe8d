"""Figures of a run, against lines of metrics that were made by hand."""

from __future__ import annotations

import pytest

from experiments.training_figures import read_lines, step_seconds


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
