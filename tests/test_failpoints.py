"""Failpoints: every name is reached somewhere, every action does what it says, nothing happens unless switched on."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from p2pdl import failpoints
from p2pdl.errors import StartupError
from p2pdl.failpoints import NAMES, VARIABLE, reach, switch
from tests.processes import ROOT

ONE, OTHER = "checkpoint.before-write", "checkpoint.before-rename"


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    switch("")
    yield
    switch("")


def reached() -> list[str]:
    """The name of every failpoint in the code; a name that is not written out is an error."""
    names = []
    for path in (ROOT / "p2pdl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Name("reach") | ast.Attribute(ast.Name("failpoints"), "reach"), arguments):
                    (argument,) = arguments
                    assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: write the name out"
                    names.append(argument.value)
    return names


def run(switched_on: str, code: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), VARIABLE: switched_on}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_names_are_those_that_the_code_reaches_each_once() -> None:
    names = reached()
    assert sorted(names) == sorted(NAMES)
    assert all(NAMES.values())


def test_reach_nothing_switched_on_does_nothing() -> None:
    for name in NAMES:
        reach(name)


def test_reach_enospc_is_the_error_of_a_full_disk_at_every_hit() -> None:
    switch(f"{ONE}=enospc")
    for _ in range(3):
        with pytest.raises(OSError, match="No space left on device") as caught:
            reach(ONE)
        assert caught.value.errno == errno.ENOSPC
    reach(OTHER)


def test_reach_raise_is_none_of_the_foreseen_errors() -> None:
    switch(f"{ONE}=raise")
    with pytest.raises(RuntimeError, match="checkpoint.before-write is switched on"):
        reach(ONE)


def test_reach_with_a_number_acts_at_that_hit_only_and_counts_anew_after_switch() -> None:
    for _ in range(2):
        switch(f"{ONE}=raise*3;{OTHER}=raise*1")
        reach(ONE)
        with pytest.raises(RuntimeError):
            reach(OTHER)
        reach(ONE)
        with pytest.raises(RuntimeError):
            reach(ONE)
        for _ in range(5):
            reach(ONE)
            reach(OTHER)


def test_reach_sleep_takes_that_long() -> None:
    switch(f"{ONE}=sleep:0.05*2")
    reach(ONE)
    started = time.monotonic()
    reach(ONE)
    assert time.monotonic() - started >= 0.05


def test_reach_pad_takes_what_is_left_of_its_time_and_nothing_where_that_is_over() -> None:
    switch("trainer.step=pad:0.05*2")
    reach("trainer.step", since=time.monotonic())
    began = time.monotonic()
    reach("trainer.step", since=began)
    assert time.monotonic() - began >= 0.05
    switch("trainer.step=pad:1000")
    reach("trainer.step", since=time.monotonic() - 1000.0)


def test_variable_kill_ends_the_process_as_a_kill_from_outside_does() -> None:
    code = (
        f"from p2pdl.failpoints import reach; reach({OTHER!r}); print('before', flush=True); reach({ONE!r}); print(1)"
    )
    ended = run(f"{ONE}=kill", code)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "before\n")


def test_variable_unset_or_empty_switches_nothing_on() -> None:
    assert run("", "from p2pdl import failpoints; print(failpoints._switched_on)").stdout == "{}\n"
    assert os.environ.get(VARIABLE) is None and not failpoints._switched_on


@pytest.mark.parametrize(
    "text, complaint",
    [
        (f"{ONE}=explode", "is no failpoint with an action"),
        (f"{ONE}", "is no failpoint with an action"),
        (f"{ONE}=", "is no failpoint with an action"),
        ("=kill", "is no failpoint with an action"),
        (f"{ONE}=sleep", "is no failpoint with an action"),
        (f"{ONE}=sleep:-1", "is no failpoint with an action"),
        ("trainer.step=pad", "is no failpoint with an action"),
        (f"{ONE}=pad:1", "has no length that could be padded"),
        (f"{ONE}=kill*0", "is no failpoint with an action"),
        (f"{ONE}=kill*", "is no failpoint with an action"),
        (f"{ONE}=kill ", "is no failpoint with an action"),
        (f"{ONE}=kill,{OTHER}=kill", "is no failpoint with an action"),
        ("checkpoint.before-lunch=kill", "no failpoint 'checkpoint.before-lunch'"),
        (f"{ONE}=kill;{ONE}=raise*2", "stands twice"),
    ],
)
def test_switch_what_is_unknown_is_an_error_and_changes_nothing(text: str, complaint: str) -> None:
    switch(f"{OTHER}=raise")
    with pytest.raises(StartupError, match=complaint) as caught:
        switch(text)
    assert caught.value.remedy and VARIABLE in caught.value.message
    with pytest.raises(RuntimeError):
        reach(OTHER)


def test_variable_with_an_unknown_action_is_an_error_at_once() -> None:
    ended = run(f"{ONE}=explode", "import p2pdl.failpoints")
    assert ended.returncode == 1 and "StartupError: P2PDL_FAILPOINTS" in ended.stderr
