"""What nothing in p2pdl may do: go by the wall clock, or fork a process that has threads."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.processes import ROOT

MODULES = sorted((ROOT / "p2pdl").rglob("*.py"))

WALL_CLOCK = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "mktime", "clock_gettime"},
    "datetime": {"datetime", "date"},
}
FORKING = {"os": {"fork", "forkpty", "register_at_fork"}, "pty": {"fork", "spawn"}}

SHOWN_ONLY = {"p2pdl/node/training_run.py": 1}
"""Where the wall clock is asked, and how often: for the time of a line in `metrics.jsonl`, which nothing goes by."""


def used(path: Path, forbidden: dict[str, set[str]]) -> list[str]:
    """What a module uses or imports of these names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(ast.Name(module), name) if name in forbidden.get(module, ()):
                found.append(f"{module}.{name}, line {node.lineno}")
            case ast.ImportFrom(module, names) if module in forbidden:
                found += [f"{module}.{each.name}" for each in names if each.name in forbidden[module]]
    return found


def test_time_is_the_monotonic_clock_s_so_that_jumps_of_the_wall_clock_change_nothing() -> None:
    found = {path.relative_to(ROOT).as_posix(): used(path, WALL_CLOCK) for path in MODULES}
    assert {name: len(uses) for name, uses in found.items() if uses} == SHOWN_ONLY, found


def test_processes_are_started_anew_and_never_forked_whatever_start_method_a_script_has_chosen() -> None:
    for path in MODULES:
        assert used(path, FORKING) == [], path
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names):
                    assert not any(each.name.split(".")[0] == "multiprocessing" for each in names), path
                case ast.ImportFrom(module):
                    assert (module or "").split(".")[0] != "multiprocessing", path
                case ast.Call(keywords=keywords):
                    assert not any(keyword.arg == "preexec_fn" for keyword in keywords), path
