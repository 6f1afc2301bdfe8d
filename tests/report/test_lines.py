"""`metrics.jsonl` read back: cut, damaged, begun anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.report.lines import lines_of, read_lines, superseded
from p2pdl.report.timeline import read_step_seconds
from tests.report.left_runs import leave_timeline, line


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
