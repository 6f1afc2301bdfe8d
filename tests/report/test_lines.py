"""`metrics.jsonl` read back: cut, damaged, begun anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.report.lines import lines_of, read_lines, superseded
from p2pdl.report.timeline import read_step_seconds, step_seconds_of
from tests.report.left_runs import evaluated, leave_timeline, line


def raw(*lines: dict[str, object]) -> list[bytes]:
    return [json.dumps(one).encode() + b"\n" for one in lines]


def test_columns_hold_the_figures_of_the_lines() -> None:
    read = lines_of(raw(*(line(number) for number in range(1, 6))))
    np.testing.assert_array_equal(read.columns["step"], [10, 20, 30, 40, 50])
    np.testing.assert_allclose(read.columns["train_loss"], 2.0 / np.arange(1, 6))
    assert read.last["step"] == 50 and read.pulls == {"node2": 5, "node3": 10} and read.missing == ()


def test_null_and_absent_figures_are_not_known() -> None:
    read = lines_of(raw({**line(1), "train_loss": None}, {"step": 20, "seconds": 2.0}))
    assert np.isnan(read.columns["train_loss"]).all() and np.isnan(read.columns["bytes_received"][1])


def test_last_line_that_is_cut_is_named_and_the_others_count() -> None:
    whole = raw(line(1), line(2))
    read = lines_of([*whole, whole[0][:40]])
    assert len(read) == 2 and read.missing == ("the last line of metrics.jsonl is cut off",)


def test_last_line_without_its_end_counts_if_it_is_whole() -> None:
    read = lines_of([raw(line(1))[0], raw(line(2))[0].rstrip()])
    assert len(read) == 2 and read.missing == ()


@pytest.mark.parametrize("damage", [b"{half\n", b"\xff\xfe\n", b"[1]\n", b"12\n"])
def test_damaged_line_is_passed_over_and_counted(damage: bytes) -> None:
    read = lines_of([*raw(line(1)), damage, *raw(line(2))])
    assert len(read) == 2 and read.missing == ("1 line of metrics.jsonl cannot be read",)


def test_file_without_lines_and_no_file_are_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for name in ("empty", "absent"):
        read = read_lines(tmp_path / name)
        assert len(read) == 0 and read.last == {} and read.pulls == {}


def test_steps_done_a_second_time_count_the_second_time_and_time_goes_on() -> None:
    again = [{**line(number), "seconds": number - 2.5, "train_loss": 9.0} for number in (3, 4)]
    read = lines_of(raw(*(line(number) for number in range(1, 5)), *again))
    np.testing.assert_array_equal(read.columns["step"], [10, 20, 30, 40])
    np.testing.assert_array_equal(read.columns["train_loss"][2:], [9.0, 9.0])
    np.testing.assert_array_equal(read.columns["seconds"], [1.0, 2.0, 4.5, 5.5])


def test_time_of_evaluations_goes_on_with_that_of_the_training_and_is_taken_off() -> None:
    before = evaluated([line(number) for number in range(1, 5)], every=2)
    # The process that goes on is slow: only its steps show that it is another one.
    again = [{**line(number), "seconds": 2.0 * number, "evaluation_seconds": 3.0} for number in (3, 4)]
    read = lines_of(raw(*before, *again))
    np.testing.assert_array_equal(read.columns["step"], [0, 10, 20, 30, 40])
    np.testing.assert_array_equal(read.columns["evaluation_seconds"], [0, 0, 0.5, 4.0, 4.0])
    np.testing.assert_array_equal(read.training_seconds, [0, 1, 2, 4 + 3, 4 + 5])
    np.testing.assert_array_equal(read.columns["test_accuracy"], [0.1, np.nan, 1 - 0.9 / 3, np.nan, np.nan])


def test_lines_of_a_version_without_evaluations_have_their_time() -> None:
    old = [{name: it for name, it in line(number).items() if name != "evaluation_seconds"} for number in (1, 2)]
    new = {**line(3), "seconds": 1.0, "evaluation_seconds": 0.25}
    np.testing.assert_array_equal(lines_of(raw(*old, new)).training_seconds, [1, 2, 2.75])


def test_merges_before_a_restart_are_added() -> None:
    read = lines_of(raw(line(1), line(5), line(2), line(3)))
    assert read.pulls == {"node2": 5 + 3, "node3": 10 + 6}


@given(st.lists(st.integers(0, 20) | st.none(), max_size=30))
def test_lines_that_stay_ascend_and_end_on_the_last_one(steps: list[int | None]) -> None:
    values = np.array([np.nan if step is None else step for step in steps], dtype=float)
    gone = superseded(values)
    oracle = [
        step is None or any(later is not None and later <= step for later in steps[place + 1 :])
        for place, step in enumerate(steps)
    ]
    assert gone.tolist() == oracle
    assert (np.diff(values[~gone]) > 0).all()


def test_step_lengths_come_from_the_starts_in_the_timeline(tmp_path: Path) -> None:
    starts = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.05, 200))
    leave_timeline(tmp_path, starts)
    np.testing.assert_allclose(read_step_seconds(tmp_path / "timeline.json"), np.diff(starts), atol=2e-6)
    assert len(read_step_seconds(tmp_path / "absent.json")) == 0


def test_evaluations_are_no_part_of_a_step_s_length() -> None:
    starts = np.array([0.0, 0.5, 1.0, 4.5, 5.0, 5.5])
    spans = [("compute", start, 0.25, step) for step, start in enumerate(starts, start=1)]
    # One before the first step, one of three seconds after the third, and one after the last.
    spans += [("evaluate", start, seconds, 0) for start, seconds in ((-2.0, 1.5), (1.375, 3.0), (5.875, 7.0))]
    written = [
        json.dumps({"name": name, "ts": 1e6 * start, "dur": 1e6 * seconds, "args": {"step": step}}).encode() + b",\n"
        for name, start, seconds, step in spans
    ]
    np.testing.assert_allclose(step_seconds_of(written), np.full(5, 0.5))
