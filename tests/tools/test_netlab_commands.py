"""`tools/netlab` as people run it: what it says of mistakes, what commands get to know, and how everything ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.network import NAMESPACES
from p2pdl.errors import StartupError
from tests.processes import ROOT, is_running, wait_until
from tools.lab.commands import commands_in, filled, host_names, per_host
from tools.lab.contract import Line
from tools.lab.proxies import ProxyLab

COMMAND = [sys.executable, "-m", "tools.lab"]
SECONDS = 60.0
"""For what does happen, however busy the machine is."""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, timeout=2 * SECONDS)


def namespaces_of(process: int) -> list[str]:
    listed = os.listdir(NAMESPACES) if NAMESPACES.is_dir() else []
    return [name for name in listed if name.startswith(f"p2pdl-{process}-")]


def test_hosts_are_counted_or_named() -> None:
    assert host_names("3") == ["host1", "host2", "host3"]
    assert host_names("server,w-1") == ["server", "w-1"]
    for wrong in ("1", "a,a", "a,all", "a,", "", "a,b c", "251"):
        with pytest.raises(StartupError):
            host_names(wrong)


def test_own_number_of_a_host_goes_before_that_of_all() -> None:
    assert per_host("--rate", ["server=300", "all=100"], ["server", "one"]) == {"server": 300, "one": 100}
    assert per_host("--rate", ["one=2.5"], ["server", "one"]) == {"one": 2.5}
    for wrong in ("one", "two=1", "one=", "one=0", "one=-1", "one=nan", "one=inf", "one=fast"):
        with pytest.raises(StartupError) as caught:
            per_host("--rate", [wrong], ["server", "one"])
        assert caught.value.remedy


def test_file_of_commands_is_read(tmp_path: Path) -> None:
    file = tmp_path / "commands"
    file.write_text("# two\nserver: echo 'a b' c:d\n\none : sleep 1\n")
    assert commands_in(file) == {"server": ["echo", "a b", "c:d"], "one": ["sleep", "1"]}
    for wrong in ("server", "server:", "a: b\na: c", "a: 'b"):
        file.write_text(wrong)
        with pytest.raises(StartupError, match="commands:"):
            commands_in(file)
    with pytest.raises(StartupError, match="cannot be read"):
        commands_in(tmp_path / "nothing")


def test_particulars_are_filled_in_and_other_braces_stay() -> None:
    with ProxyLab([Line(), Line()]) as lab:
        words = ["{host}-{number}", "{bind}", "x{address.a}", '{"address": {}}', "{address}"]
        assert filled(words, 1, ["a", "b"], lab) == [
            "b-1",
            lab.bind(1),
            f"x{lab.address(0)}",
            '{"address": {}}',
            lab.address(1),
        ]
        with pytest.raises(StartupError, match="no host 'c'"):
            filled(["{address.c}"], 0, ["a", "b"], lab)


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "no hosts"),
        (["--hosts", "2", "--rate", "server=1"], "no host 'server'"),
        (["--hosts", "2", "--until", "server", "--", "true"], "no host 'server'"),
        (["--hosts", "2", "--commands", "nothing"], "cannot be read"),
        (["--hosts", "2", "--link", "proxy", "--", "p2pdl-nothing"], "no command p2pdl-nothing"),
        (["--hosts", "2", "--link", "proxy", "--result", "/nowhere/file", "--", "true"], "cannot be written"),
    ],
)
def test_mistake_on_the_command_line_is_told(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2 and said in done.stderr and "  -> " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["tools.lab", "tools.shaping"])
def test_help_is_there(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--rate" in done.stdout and "--latency" in done.stdout


def check_whole_run(link: str, folder: Path) -> None:
    file, talk = folder / "result.json", folder / "commands"
    serving = (
        "import socket,sys; h,p=sys.argv[1].split(':'); s=socket.create_server((h,int(p))); s.accept()[0].send(b'x')"
    )
    asking = (
        "import socket,sys,time\nh,p=sys.argv[1].split(':')\nwhile True:\n"
        "  try: print('got', socket.create_connection((h,int(p))).recv(1)); break\n"
        "  except OSError: time.sleep(.05)"
    )
    (folder / "serving.py").write_text(serving)
    # A relay takes a connection before the server listens: it is reset, or ends without a byte.
    (folder / "asking.py").write_text(asking)
    talk.write_text(
        f"server: {sys.executable} {folder}/serving.py {{bind}}\none: {sys.executable} {folder}/asking.py "
        "{address.server}\n"
    )
    done = run("--link", link, "--commands", str(talk), "--rate", "server=40", "--until", "one", "--result", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[one] got b'")
    result = json.loads(file.read_text())
    server, one = result["hosts"]["server"], result["hosts"]["one"]
    assert result["link"] == link and result["latency_by"] is None and result["exit_codes"]["one"] == 0
    assert server["mbit"] == 40 and server["measured_out_mbit"] > 0 and one["mbit"] is None
    assert server["is_near"] is not ("MORE THAN A TENTH OFF" in done.stderr)
    assert f"link: {link}" in done.stderr and "server: 40 Mbit/s" in done.stderr


@pytest.mark.root
def test_run_on_namespaces_measures_and_lets_hosts_meet(tmp_path: Path) -> None:
    check_whole_run("namespaces", tmp_path)


def test_run_behind_proxies_measures_and_lets_hosts_meet(tmp_path: Path) -> None:
    check_whole_run("proxy", tmp_path)


def test_command_that_fails_ends_the_others(tmp_path: Path) -> None:
    file = tmp_path / "commands"
    file.write_text("a: sleep 1000\nb: bash -c 'exit 3'\n")
    done = run("--link", "proxy", "--commands", str(file), "--result", str(tmp_path / "result"))
    assert done.returncode == 1 and "b: exit code 3" in done.stderr
    assert json.loads((tmp_path / "result").read_text())["exit_codes"] == {"a": None, "b": 3}


def test_time_that_is_up_ends_all(tmp_path: Path) -> None:
    done = run("--link", "proxy", "--hosts", "2", "--seconds", "0.2", "--", "bash", "-c", "sleep 1000 & sleep 1000")
    assert done.returncode == 0


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be somebody else")
def test_who_is_not_root_gets_proxies_by_itself(tmp_path: Path) -> None:
    code = (
        "import os, sys, runpy; import tools.lab.__main__ as m; os.geteuid = lambda: 1000; "
        "m.main(['--hosts', '2', '--', 'echo', '{host}'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0 and "(not root)" in done.stderr and "link: proxy" in done.stderr
    assert sorted(done.stdout.splitlines()) == ["[host1] host1", "[host2] host2"]


def start(link: str, folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A laboratory whose hosts sleep, and the ids of what runs on them."""
    words = ["--link", link, "--hosts", "2", "--", "bash", "-c", f"echo $$ >{folder}/{{host}}; sleep 1000; true"]
    lab = subprocess.Popen([*COMMAND, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = [folder / "host1", folder / "host2"]
    assert wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files), SECONDS)
    return lab, [int(file.read_text()) for file in files]


def check_ends(link: str, folder: Path) -> None:
    lab, sleeping = start(link, folder)
    lab.send_signal(signal.SIGTERM)
    assert lab.wait(SECONDS) == 128 + signal.SIGTERM
    assert not any(is_running(process) for process in sleeping) and namespaces_of(lab.pid) == []


def check_killed(link: str, folder: Path) -> None:
    lab, sleeping = start(link, folder)
    lab.kill()
    lab.wait()
    assert all(is_running(process) for process in sleeping)
    assert len(namespaces_of(lab.pid)) == (3 if link == "namespaces" else 0)
    assert run("--link", link, "--hosts", "2", "--", "true").returncode == 0
    assert not any(is_running(process) for process in sleeping) and namespaces_of(lab.pid) == []


@pytest.mark.root
def test_namespaces_end_with_sigterm(tmp_path: Path) -> None:
    check_ends("namespaces", tmp_path)


def test_hosts_behind_proxies_end_with_sigterm(tmp_path: Path) -> None:
    check_ends("proxy", tmp_path)


@pytest.mark.root
def test_namespaces_of_a_killed_lab_are_removed_by_the_next_one(tmp_path: Path) -> None:
    check_killed("namespaces", tmp_path)


def test_what_a_killed_lab_of_proxies_left_is_ended_by_the_next_one(tmp_path: Path) -> None:
    check_killed("proxy", tmp_path)
