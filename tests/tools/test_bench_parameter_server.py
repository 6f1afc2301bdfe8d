"""The benchmark against TensorFlow's parameter server: what it refuses, and a small run with its ratio."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT

COMMAND = [sys.executable, str(ROOT / "tools" / "bench_parameter_server")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("words", [["--workers", "0"], ["--systems", "asp"], ["--systems", "keras", "module"]])
def test_senseless_arguments_are_refused(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2 and "error:" in done.stderr


@pytest.mark.slow
def test_small_run_has_the_ratio_of_both_servers() -> None:
    done = run("--workers", "2", "--seconds", "1", "--rounds", "1", "--systems", "keras", "asp", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    speeds = figures["steps_per_second"]
    assert figures["better_form"] == "keras" and speeds.keys() == figures["runs"].keys() == {"keras", "asp"}
    assert figures["ratios"] == {"asp": pytest.approx(speeds["asp"] / speeds["keras"])}
    [ours] = figures["runs"]["asp"]
    assert ours["merges_per_step"] >= 1 and ours["failures"] == 0
