"""Quantiles, fewer points, phases and merges against plain numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.report.downsampling import downsampled, median_curve
from p2pdl.report.lines import lines_of
from p2pdl.report.reading import read_run
from p2pdl.report.statistics import (
    mean_step_times,
    merge_matrix,
    phase_seconds,
    seconds_per_step,
    weighted_quantile,
)
from tests.report.left_runs import NAMES, leave_run, leave_timeline, line

VALUES = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 9)), min_size=1, max_size=30)


@given(VALUES, st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_weighted_quantile_is_that_of_values_that_are_repeated(pairs: list[tuple[float, int]], share: float) -> None:
    values, weights = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    oracle = np.quantile(np.repeat(values, weights), share, method="inverted_cdf")
    assert weighted_quantile(values, weights.astype(float), share) == oracle


def test_quantile_of_nothing_is_not_known() -> None:
    assert weighted_quantile(np.empty(0), np.empty(0), 0.5) is None


def test_mean_step_times_are_the_differences_of_lines() -> None:
    raw = [{**line(1), "seconds": seconds, "step": step} for seconds, step in ((1.0, 10), (3.0, 14), (3.5, 24))]
    values, weights = mean_step_times(lines_of([json.dumps(one).encode() for one in raw]))
    np.testing.assert_allclose(values, [0.5, 0.05])
    np.testing.assert_array_equal(weights, [4, 10])


@given(st.lists(st.floats(-100, 100), max_size=400), st.integers(4, 60))
def test_fewer_points_keep_both_ends_the_least_and_the_greatest(values: list[float], points: int) -> None:
    y = np.array(values)
    x = np.arange(len(y), dtype=float)
    some_x, some_y = downsampled(x, y, points)
    assert len(some_x) <= points and (np.diff(some_x) > 0).all()
    np.testing.assert_array_equal(some_y, y[some_x.astype(int)])
    if len(y):
        assert some_x[0] == 0 and some_x[-1] == len(y) - 1
        assert some_y.min() == y.min() and some_y.max() == y.max()


def test_points_that_are_not_known_are_left_out() -> None:
    x, y = downsampled(np.array([0.0, 1.0, np.nan, 3.0]), np.array([1.0, np.nan, 2.0, 4.0]), 10)
    np.testing.assert_array_equal(x, [0, 3])
    np.testing.assert_array_equal(y, [1, 4])


def test_median_curve_is_the_median_where_all_curves_are() -> None:
    x = np.linspace(0, 10, 11)
    places, middle = median_curve([(x, x), (x[2:], 3 * x[2:]), (x, 10 * x)], 9)
    np.testing.assert_allclose(places, np.linspace(2, 10, 9))
    np.testing.assert_allclose(middle, 3 * places)


@pytest.mark.parametrize("curves", [[], [(np.array([0.0, 1.0]),) * 2, (np.array([2.0, 3.0]),) * 2]])
def test_median_of_curves_that_share_no_place_is_empty(curves: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert len(median_curve(curves, 5)[0]) == 0


def test_phases_add_up_to_the_time_and_pulls_beside_it_are_free(tmp_path: Path) -> None:
    run = read_run(leave_run(tmp_path / "lab"), "lab")
    phases = phase_seconds(run.nodes[0])
    assert phases is not None
    assert phases == pytest.approx(
        {"compute": 14.0, "publish": 2.0, "merge": 1.0, "wait": 0.0, "pull": 0.0, "rest": 3.0}
    )


def test_evaluations_are_neither_steps_nor_a_phase(tmp_path: Path) -> None:
    plain = read_run(leave_run(tmp_path / "plain"), "plain").nodes[0]
    folder = leave_run(tmp_path / "evaluated", evaluate_every=4)
    assert phase_seconds(read_run(folder, "evaluated").nodes[0]) == pytest.approx(phase_seconds(plain))
    (folder / "node1" / "summary.json").unlink()
    node = read_run(folder / "node1", "evaluated").nodes[0]
    assert phase_seconds(node) == pytest.approx(phase_seconds(plain))
    values, weights = mean_step_times(node.lines)
    np.testing.assert_allclose(values, np.full(20, 0.1))
    np.testing.assert_array_equal(weights, np.full(20, 10))


@pytest.mark.parametrize("part, pull", [("all", 10.0), ("auto", 0.0), (2, 0.0)])
def test_pull_of_a_worker_is_its_time_if_it_pulls_the_whole_model(tmp_path: Path, part: object, pull: float) -> None:
    folder = leave_run(tmp_path / "lab")
    settings = json.loads((folder / "node1" / "config.json").read_text())
    settings |= {"strategy": "parameter-server", "server": {"range": part}}
    (folder / "node1" / "config.json").write_text(json.dumps(settings))
    told = json.loads((folder / "node1" / "summary.json").read_text())
    (folder / "node1" / "summary.json").write_text(json.dumps({**told, "strategy": "parameter-server"}))
    phases = phase_seconds(read_run(folder / "node1", "node1").nodes[0])
    assert phases is not None and phases["pull"] == pull


def test_matrix_counts_the_merges_of_each_with_each(tmp_path: Path) -> None:
    mergers, sources, counts = merge_matrix(read_run(leave_run(tmp_path / "lab", lines=4), "lab"))
    assert mergers == sources == list(NAMES)
    np.testing.assert_array_equal(counts, [[0, 4, 8], [4, 0, 8], [4, 8, 0]])


def test_step_lengths_without_a_summary_come_from_the_timeline_and_else_from_lines(tmp_path: Path) -> None:
    node = leave_run(tmp_path / "lab") / "node1"
    assert seconds_per_step(read_run(node, "n").nodes[0]) == (0.1, 0.12)
    (node / "summary.json").unlink()
    assert seconds_per_step(read_run(node, "n").nodes[0]) == pytest.approx((0.1, 0.1))
    leave_timeline(node, np.array([0.0, 0.02, 0.04, 0.06, 0.12]))
    assert seconds_per_step(read_run(node, "n").nodes[0]) == pytest.approx((0.02, 0.06))
