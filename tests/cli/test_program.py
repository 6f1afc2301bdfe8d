"""The program itself: help at once, the right exit codes, and never a traceback for a user's own mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from p2pdl import __version__
from p2pdl.cli import COMMANDS, program
from p2pdl.errors import ConfigurationError, PeerError, Problem, StartupError
from tests.processes import ROOT

HEAVY = ("pydantic", "rich", "zmq", "numpy", "tensorflow", "keras", "yaml", "msgpack")

LOADED = f"""
import json, sys
from p2pdl.cli import program
try:
    program(["--help"], prog_name="p2pdl")
except SystemExit:
    pass
print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))), file=sys.stderr)
"""


def test_help_loads_nothing_but_click() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stderr) == []
    assert all(name in done.stdout for name in COMMANDS)


def test_help_takes_a_moment() -> None:
    took = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "p2pdl", "--help"], check=True, capture_output=True, cwd=ROOT)
        took.append(time.perf_counter() - started)
    print(f"p2pdl --help: {min(took):.3f} s, the best of {len(took)}")
    assert min(took) < 1.0


@pytest.mark.parametrize("name", COMMANDS)
def test_short_help_is_the_commands_own(name: str) -> None:
    command = import_module(f"p2pdl.cli.{name}").command
    assert command.name == name
    assert command.short_help == COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(program, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: p2pdl {name}" in result.stdout.replace("program", "p2pdl")


def test_version_is_told() -> None:
    assert CliRunner().invoke(program, ["--version"]).stdout.strip() == f"p2pdl, version {__version__}"


def test_unknown_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(program, ["statsu"])
    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.stderr


def failed_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What a command comes to that raises an error."""

    @click.command("init")
    def command() -> None:
        raise error

    monkeypatch.setattr(import_module("p2pdl.cli.init"), "command", command)
    return CliRunner().invoke(program, ["init"])


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Its exit code and what it says."""
    result = failed_with(error, monkeypatch)
    assert result.stdout == ""
    return result.exit_code, result.stderr


def test_error_is_a_message_with_its_remedy_and_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fail_with(StartupError("the port is taken", "take another"), monkeypatch) == (
        2,
        "p2pdl: the port is taken\n  -> take another\n",
    )
    assert fail_with(PeerError("nobody there"), monkeypatch) == (1, "p2pdl: nobody there\n")


def test_every_mistake_of_a_configuration_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Problem("train.passes", "found `x`", "write a number", Path("peers.yaml"), 3)
    second = Problem("gossip.peers", "found `0`", "write `1`")
    one = fail_with(ConfigurationError([first]), monkeypatch)
    assert one == (2, "p2pdl: peers.yaml:3: train.passes: found `x`\n  -> write a number\n")
    two = fail_with(ConfigurationError([first, second]), monkeypatch)
    assert two == (
        2,
        "p2pdl: 2 mistakes in the configuration:\n"
        "  peers.yaml:3: train.passes: found `x`\n    -> write a number\n"
        "  --set: gossip.peers: found `0`\n    -> write `1`\n",
    )


def test_ctrl_c_is_exit_code_130_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fail_with(KeyboardInterrupt(), monkeypatch) == (130, "")


def test_unforeseen_error_is_one_line_and_the_way_to_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2PDL_TRACEBACK", raising=False)
    code, text = fail_with(ZeroDivisionError("by zero"), monkeypatch)
    assert code == 1
    assert "ZeroDivisionError: by zero" in text
    assert "P2PDL_TRACEBACK=1" in text
    assert "Traceback" not in text


def test_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PDL_TRACEBACK", "1")
    assert isinstance(failed_with(ZeroDivisionError("by zero"), monkeypatch).exception, ZeroDivisionError)


def test_reader_that_closes_the_pipe_early_causes_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "p2pdl", "init", str(tmp_path / "peers.yaml")],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "should not have happened" not in done.stderr
