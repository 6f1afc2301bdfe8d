"""Nodes that are killed, stopped and started again for five minutes, several at a time; every promise holds."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

NODES = min(20, 4 * (os.cpu_count() or 1))
"""Twenty, where there is room: each loads TensorFlow anew whenever it has been killed."""


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_minutes_of_churn_break_no_promise(tmp_path: Path) -> None:
    seed = os.environ.get("P2PDL_SEED") or str(secrets.randbits(31))
    storm = ["--nodes", str(NODES), "--seconds", "300", "--kinds", "kill,pause,restart", "--data", "digits"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.storm", *storm, "--seed", seed, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, f"P2PDL_SEED={seed}\n{done.stdout}{done.stderr}"
