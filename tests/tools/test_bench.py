"""The benchmark: its rows run end to end at tiny sizes, it says what it compares with, and it leaves nothing behind."""

from __future__ import annotations

import json
import math
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdl.codec import CODECS
from tests.processes import ROOT, is_running, wait_until
from tools.benchmarks.accounting import own_peak_nbytes, processor_seconds
from tools.benchmarks.codecs import DELTAS
from tools.benchmarks.families import FAMILIES, chosen, rows
from tools.benchmarks.measurement import Effort, Found, Result, Row, Target, alternate

COMMAND = [sys.executable, "-m", "tools.benchmarks"]
START_SECONDS, END_SECONDS = 60.0, 30.0
TABLE_ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \|([^|]*)\| [^|]+ \|$", re.MULTILINE)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True)


def figures_of(*names: str) -> dict[str, dict]:
    done = run("--trial", "--repeats", "2", "--json", *names)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["trial"] and said["repeats"] == 2
    assert said["machine"]["cores"] >= 1 and len(said["machine"]["load"]) == 3
    assert {"p2pdl", "python", "numpy"} <= said["machine"]["versions"].keys()
    return {row["row"]: row for row in said["rows"]}


def check(row: dict) -> None:
    """A row's figures are numbers above zero, and its ratios are those of its pairs."""
    values = [value for pair in row["pairs"] for value in pair]
    assert len(values) == 4 and all(math.isfinite(value) and value > 0 for value in values), row
    ratios = [measured / reference for measured, reference in row["pairs"]]
    assert row["ratio"] == pytest.approx(statistics.median(ratios))
    assert row["spread"] == pytest.approx([min(ratios), max(ratios)])
    assert row["reference"] and row["what"] and row["unit"]


@pytest.mark.slow
def test_one_row_of_each_quick_kind_runs_end_to_end() -> None:
    names = (
        "pull-4",
        "pull-80-unchecked",
        "pull-80-int8-curve",
        "encode-int8",
        "decode-top-k:0.01",
        "select-mlp-esgd-int8",
        "server-int8",
        "memory-server-delta",
    )
    found = figures_of(*names)
    assert found.keys() == set(names)
    for row in found.values():
        check(row)
    assert found["pull-4"]["reference"].startswith("bare TCP") and found["pull-4"]["target"] is None
    assert found["pull-80-unchecked"]["target"] == ">= 0.90"
    assert found["encode-int8"]["reference"].startswith("memcpy")
    assert found["encode-int8"]["details"]["times_smaller"] == pytest.approx(4 / (1 + 4 / 256), rel=1e-3)


def test_table_names_rows_references_and_machine() -> None:
    done = run("--trial", "--repeats", "1", "encode-float32")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ ?encode-float32 .* ms .* 1 times smaller", done.stdout, re.MULTILINE)
    assert "Reference of encode-float32: memcpy of the same float32 bytes." in done.stdout
    assert "cores, load" in done.stdout and "numpy" in done.stdout and "say nothing of p2pdl" in done.stdout


@pytest.mark.slow
def test_every_row_runs_end_to_end() -> None:
    found = figures_of("all")
    assert list(found) == list(rows())
    for row in found.values():
        check(row)
    assert found["step-mlp"]["details"]["pulls_per_step"] > 0 == found["step-mlp"]["details"]["failed_pulls"]


def test_unknown_row_is_wrong_usage_and_list_names_every_row() -> None:
    refused = run("pull", "pushes")
    assert refused.returncode == 2 and "'pushes'" in refused.stderr and "--list" in refused.stderr
    listed = run("--list")
    assert listed.returncode == 0
    assert [name for name in rows() if not re.search(rf"^ +{re.escape(name)} ", listed.stdout, re.MULTILINE)] == []


def test_row_that_fails_says_why_and_keeps_what_was_measured() -> None:
    code = """
from tools.benchmarks import __main__, worker
worker.Worker.ask = lambda self, what, ask=worker.Worker.ask: (self._process.kill(), ask(self, what))[1]
__main__.command(["--trial", "--repeats", "1", "encode-float32"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "encode-float32: the process of" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_signal_ends_every_process(number: signal.Signals, code: int) -> None:
    command = [*COMMAND, "--trial", "--repeats", "1000000", "pull-4"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        try:
            # The row's own process, its server, the bare TCP server and the puller.
            assert wait_until(lambda: len(set(descendants(bench.pid))) == 4, START_SECONDS)
            started = set(descendants(bench.pid))
            bench.send_signal(number)
            assert bench.wait(END_SECONDS) == code
        finally:
            bench.kill()
    assert wait_until(lambda: not any(map(is_running, started)), END_SECONDS)


def descendants(process: int) -> Iterator[int]:
    """Ids of the processes that a process and its children have started."""
    path = Path(f"/proc/{process}/task/{process}/children")
    for child in path.read_text().split() if path.exists() else ():
        yield int(child)
        yield from descendants(int(child))


def test_names_of_rows_are_unique_and_choose_rows() -> None:
    everything = [row for family in FAMILIES.values() for row in family]
    assert len(rows()) == len(everything) and not rows().keys() & FAMILIES.keys()
    assert chosen(["all"]) == everything
    assert chosen([]) == [row for row in everything if row.quick]
    assert chosen(["server", "pull-80", "pull"]) == [*FAMILIES["pull"], *FAMILIES["server"]]
    with pytest.raises(KeyError, match="pull-81"):
        chosen(["pull-81"])


def test_sides_take_turns_and_the_first_pair_is_left_out() -> None:
    said: list[str] = []

    def side(name: str, value: float) -> float:
        said.append(name)
        return value * len(said)

    pairs = alternate(3, lambda: side("measured", 1.0), lambda: side("reference", 10.0))
    assert said == ["reference", "measured", "measured", "reference"] * 2
    assert pairs == [(3.0, 40.0), (6.0, 50.0), (7.0, 80.0)]


def test_result_has_the_median_of_the_ratios_and_not_the_ratio_of_medians() -> None:
    row = Row("row", "what", "reference", "ms", lambda effort: Found([]), Target("<=", 2.0))
    result = Result(row, Found([(1.0, 1.0), (6.0, 2.0), (20.0, 10.0)]), load=0.5)
    assert (result.measured, result.reference, result.ratio) == (6.0, 2.0, 2.0)
    assert result.as_json()["is_met"] and not Target(">=", 2.1).is_met(result.ratio)
    assert json.loads(json.dumps(result.as_json()))["spread"] == [1.0, 3.0]


def test_trial_makes_everything_small() -> None:
    assert Effort(1).elements(80) == 20_000_000 and Effort(1).times(20) == 20
    assert Effort(1, trial=True).elements(400) < 1_000_000 and Effort(1, trial=True).times(20) == 2


def test_kernel_counts_time_and_memory_of_another_process() -> None:
    code = "print(sum(range(10**6)), flush=True); memory = b'x' * (64 << 20); print('done', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            seconds, process_line = processor_seconds(process.pid), process.stdout.readline()
            assert process_line == b"done\n" and 0 < seconds <= processor_seconds(process.pid)
            assert (64 << 20) < own_peak_nbytes(process.pid) < (128 << 20)
        finally:
            process.kill()


def test_page_has_every_row_with_its_target_and_every_codec() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    written = {name: target.strip() for name, target in TABLE_ROW.findall(page) if name in rows()}
    wanted = {row.name: str(row.target or "") for row in rows().values() if row not in FAMILIES["codecs"]}
    assert written == wanted
    section = page.partition("## Codecs")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE) == [*CODECS, *DELTAS]
