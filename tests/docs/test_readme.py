"""The README's words are true: its snippet trains, its commands run as they stand."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import program
from p2pdl.config import load
from tests.node.clusters import START_SECONDS, make_lab
from tests.processes import ROOT, free_port, wait_until

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every line of a shell block of the README that calls p2pdl."""
    lines = "".join(blocks(ROOT / "README.md", "sh")).splitlines()
    return [line for line in lines if line.startswith("p2pdl ")]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = shlex.split(line)[1:]
    return subprocess.run(
        [sys.executable, "-m", "p2pdl", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


def asked(line: str, folder: Path) -> Result:
    """As `run`, in this process, where asking again and again takes no time from the nodes that are starting."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(program, shlex.split(line)[1:])


def test_the_snippet_makes_two_copies_of_a_script_one_cluster(tmp_path):
    (snippet,) = blocks(ROOT / "README.md", "python")
    lab = make_lab(tmp_path, 2)
    (tmp_path / "script.py").write_text(snippet)
    with contextlib.ExitStack() as stack:
        copies = []
        for _ in range(2):
            copy = subprocess.Popen(
                [sys.executable, "script.py"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=tmp_path,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            )
            copies.append(stack.enter_context(copy))
            stack.callback(copy.kill)
        assert [copy.wait(START_SECONDS) for copy in copies] == [0, 0]
    for name in ("node1", "node2"):
        assert lab.summary(name)["final_merge"]["nodes"] == ["node1", "node2"]


def test_the_commands_for_several_machines_work_as_they_stand_in_one_folder(tmp_path):
    init, check, keygen, node, status, connect, join, *_ = commands()
    assert run(init, tmp_path).returncode == 0
    file = tmp_path / "peers.yaml"
    # The file is for ports that may be in use here, and for more passes than this test has time for.
    file.write_text(re.sub(r"(127\.0\.0\.1):71\d\d", lambda match: f"{match[1]}:{free_port()}", file.read_text()))
    names = load(file).names
    checked = run(check, tmp_path)
    assert checked.returncode == 0 and "Mbit/s" in checked.stdout
    assert run(status, tmp_path).returncode == 1, "nobody answers yet"
    unconnected = run(connect, tmp_path)
    assert unconnected.returncode == 1 and "node4" in unconnected.stdout
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(len(names)):
            log = stack.enter_context((tmp_path / f"terminal-{number}").open("wb"))
            one = subprocess.Popen(
                [sys.executable, "-m", "p2pdl", *shlex.split(node)[1:]],
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            )
            nodes.append(stack.enter_context(one))
            stack.callback(one.kill)
        assert wait_until(lambda: asked(status, tmp_path).exit_code == 0, START_SECONDS)
        (tmp_path / "own.yaml").write_text(
            f"cluster: {{name: digits}}\nnodes: [{{name: own, address: '127.0.0.1:{free_port()}'}}]\n"
        )
        live = str(load(file).nodes[0].address)
        joining = shlex.split(join.replace("192.168.1.10:7101", live))[1:]
        log = stack.enter_context((tmp_path / "terminal-own").open("wb"))
        fifth = subprocess.Popen(
            [sys.executable, "-m", "p2pdl", *joining],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )
        nodes.append(stack.enter_context(fifth))
        stack.callback(fifth.kill)
        assert wait_until(lambda: "own" in asked(status, tmp_path).stdout, START_SECONDS)
        assert [one.wait(2 * START_SECONDS) for one in nodes] == [0] * len(nodes)
    said = [(tmp_path / f"terminal-{number}").read_text() for number in range(len(names))]
    # The same line, typed in as many terminals, has started every node of the file once.
    assert sorted(text.split(":")[0] for text in said) == sorted(names)
    assert all(", ".join(sorted(names)) in text.rpartition("final merge of ")[2] for text in said)
    assert "final merge of node1, node2, node3, node4, own" in (tmp_path / "terminal-own").read_text()
    assert run(keygen, tmp_path).returncode == 0 and (tmp_path / "keys" / "node1.secret").exists()


def test_the_commands_for_a_parameter_server_are_about_one_file_that_loads(tmp_path):
    *_, init, up = commands()
    words = shlex.split(up)
    assert words[:3] == ["p2pdl", "up", "--config"] and len(words) == 4
    assert asked(init, tmp_path).exit_code == 0
    configuration = load(tmp_path / words[3])
    assert configuration.strategy == "parameter-server" and len(configuration.servers) == 1


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_to_a_file_of_the_project_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_of_a_shell_block_exists(page):
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].startswith("./"):
            assert (ROOT / words[0]).exists(), line
        elif words and words[0] == "p2pdl":
            assert run(f"p2pdl {words[1]} --help", ROOT).returncode == 0, line
