"""The timeline as trace viewers read it: whole after every write, in order, bounded, and never a reason to stop."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.training import timeline as room
from p2pdl.training.timeline import BATCH, Timeline
from tests.processes import ROOT

KILLED = """
import signal, sys
from pathlib import Path
from p2pdl.training.timeline import Timeline
timeline = Timeline(Path(sys.argv[1]), "node1")
for step in range(3000):
    timeline.record("trainer", "compute", step, step + 1, step=step)
    if step % 100 == 0:
        timeline.flush()
print("ready", flush=True)
signal.pause()
"""
"""Has written everything but the last 99 spans."""


def events(path, kind="X"):
    return [event for event in json.loads(path.read_text()) if event["ph"] == kind]


def opened(path, **settings):
    return Timeline(path, "node1", **settings)


def test_events_are_complete_ones_in_microseconds_on_named_tracks(tmp_path):
    timeline = opened(tmp_path / "t.json")
    assert timeline.pullers == ("puller",)
    timeline.record("trainer", "compute", 1000.0, 1000.0125, step=7)
    timeline.record("puller", "pull node2", 1000.005, 1000.0305, bytes=123, codec="int8")
    timeline.close()
    assert events(tmp_path / "t.json") == [
        {
            **{"ph": "X", "pid": os.getpid(), "tid": 1, "name": "compute", "ts": 1_000_000_000, "dur": 12_500},
            "args": {"step": 7},
        },
        {
            **{"ph": "X", "pid": os.getpid(), "tid": 2, "name": "pull node2", "ts": 1_000_005_000, "dur": 25_500},
            "args": {"bytes": 123, "codec": "int8"},
        },
    ]
    names = {(event["name"], event["tid"]): event["args"] for event in events(tmp_path / "t.json", "M")}
    assert names[("process_name", 0)] == {"name": "node1"}
    for number, track in enumerate(["trainer", "puller"], start=1):
        assert names[("thread_name", number)] == {"name": track}
        assert names[("thread_sort_index", number)] == {"sort_index": number}


def test_several_pulls_at_one_time_have_a_track_each(tmp_path):
    timeline = opened(tmp_path / "t.json", pullers=3)
    assert timeline.pullers == ("puller 1", "puller 2", "puller 3")
    for number, track in enumerate(timeline.pullers):
        timeline.record(track, f"pull node{number}", 1.0, 2.0)
    timeline.close()
    named = {
        event["tid"]: event["args"] for event in events(tmp_path / "t.json", "M") if event["name"] == "thread_name"
    }
    assert named == {1: {"name": "trainer"}} | {n + 2: {"name": track} for n, track in enumerate(timeline.pullers)}
    assert [(event["tid"], event["name"]) for event in events(tmp_path / "t.json")] == [
        (number + 2, f"pull node{number}") for number in range(3)
    ]


def test_file_is_whole_before_the_first_span_and_after_every_write(tmp_path):
    path = tmp_path / "t.json"
    timeline = opened(path)
    assert events(path) == []
    for number in range(1, 6):
        timeline.record("trainer", "merge", number, number + 0.5)
        assert len(events(path)) == number - 1
        timeline.flush()
        assert len(events(path)) == number
    timeline.flush()
    timeline.close()
    timeline.close()
    assert len(events(path)) == 5


def test_spans_do_not_gather_in_memory(tmp_path):
    timeline = opened(tmp_path / "t.json")
    for number in range(BATCH + 1):
        timeline.record("trainer", "compute", number, number + 1)
    assert len(events(tmp_path / "t.json")) == BATCH
    timeline.close()
    assert len(events(tmp_path / "t.json")) == BATCH + 1


@given(st.lists(st.floats(0, 1e-3), min_size=2, max_size=40), st.floats(0, 1e8))
def test_spans_that_follow_each_other_never_overlap(tmp_path_factory, lengths, begin):
    path = tmp_path_factory.mktemp("timeline") / "t.json"
    timeline = opened(path)
    now = begin
    for length in lengths:
        timeline.record("trainer", "compute", now, now + length)
        now += length
    timeline.close()
    spans = events(path)
    assert len(spans) == len(lengths)
    for before, after in zip(spans, spans[1:], strict=False):
        # One that is shorter than a microsecond may begin where the next one does.
        assert before["ts"] + before["dur"] <= after["ts"] or after["dur"] == 0
    # Each is as long as it was, but for the rounding of both ends.
    total = sum(span["dur"] for span in spans)
    assert total == pytest.approx(1e6 * (now - begin), abs=len(spans) + 1)


def test_of_spans_that_begin_together_the_outer_one_comes_first(tmp_path):
    timeline = opened(tmp_path / "t.json")
    timeline.record("trainer", "merge", 1.0, 1.25)
    timeline.record("trainer", "wait", 1.0, 2.0)
    timeline.close()
    assert [event["name"] for event in events(tmp_path / "t.json")] == ["wait", "merge"]


def test_details_that_json_cannot_hold_become_null(tmp_path):
    timeline = opened(tmp_path / "t.json")
    timeline.record("puller", 'pull "ä"', 1.0, 2.0, loss=float("nan"), version=None)
    timeline.close()
    [event] = events(tmp_path / "t.json")
    assert (event["name"], event["args"]) == ('pull "ä"', {"loss": None, "version": None})


def test_process_that_is_killed_leaves_a_whole_file_without_what_it_had_not_written(tmp_path):
    path = tmp_path / "t.json"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
    finally:
        process.kill()
        process.communicate()
    assert [event["args"]["step"] for event in events(path)] == list(range(2901))


def test_timeline_ends_at_its_limit_and_says_so_once(tmp_path, caplog):
    path = tmp_path / "t.json"
    timeline = opened(path, limit=10_000)
    for number in range(1000):
        timeline.record("trainer", "compute", number, number + 1, step=number)
        timeline.flush()
    timeline.close()
    assert 10_000 < path.stat().st_size < 10_200
    assert [event["args"]["step"] for event in events(path)] == list(range(len(events(path))))
    assert [record.message.count("ends here") for record in caplog.records] == [1]


def test_full_disk_ends_the_timeline_and_leaves_what_was_written(tmp_path, caplog, monkeypatch):
    path = tmp_path / "t.json"
    timeline = opened(path)
    timeline.record("trainer", "compute", 1.0, 2.0)
    timeline.flush()
    write = os.pwrite
    full = iter([True])

    def write_in_part(descriptor, data, offset):
        return write(descriptor, data[: len(data) // 2] if next(full, False) else data, offset)

    monkeypatch.setattr(room.os, "pwrite", write_in_part)
    for number in range(3):
        timeline.record("trainer", "merge", 2.0 + number, 3.0 + number)
        timeline.flush()
    timeline.close()
    assert [event["name"] for event in events(path)] == ["compute"]
    assert [record.message.count("cannot write") for record in caplog.records] == [1]


def test_error_of_the_disk_is_named(tmp_path, caplog, monkeypatch):
    timeline = opened(tmp_path / "t.json")

    def fail(descriptor, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(room.os, "pwrite", fail)
    timeline.record("trainer", "merge", 1.0, 2.0)
    timeline.close()
    assert "No space left on device" in caplog.text


def test_folder_that_is_missing_costs_the_timeline_only(tmp_path, caplog):
    timeline = opened(tmp_path / "nowhere" / "t.json")
    timeline.record("trainer", "compute", 1.0, 2.0)
    timeline.close()
    assert "No such file or directory" in caplog.text
