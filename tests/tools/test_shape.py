"""`tools/shape`: the lines that it prints, the rate that they give, and the device as it was afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from experiments.network import ShapedNetwork, has_netem, queues
from tests.processes import ROOT

COMMAND = [sys.executable, "-m", "tools.shaping"]


def shape(*words: str, within: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*within, *COMMAND, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_lines_are_printed_and_nothing_is_done() -> None:
    done = shape("lo", "--rate", "100mbit", "--latency", "20ms")
    assert done.returncode == 0 and done.stdout.splitlines() == [
        "tc qdisc replace dev lo root handle 7d1: netem delay 20ms limit 1167",
        "tc qdisc replace dev lo parent 7d1:1 tbf rate 100000000bit burst 80000b latency 50ms",
        "# undone by: tc qdisc delete dev lo root",
    ]


@pytest.mark.parametrize(
    "mbit, milliseconds, wanted",
    [
        (None, 0, []),
        (2000, 0, ["qdisc replace dev x root handle 7d1: tbf rate 2000000000bit burst 250000b latency 50ms"]),
        (0.5, 0, ["qdisc replace dev x root handle 7d1: tbf rate 500000bit burst 80000b latency 50ms"]),
        (None, 0.5, ["qdisc replace dev x root handle 7d1: netem delay 0.5ms limit 100000"]),
    ],
)
def test_queues_are_as_long_as_a_link_needs(mbit: float | None, milliseconds: float, wanted: list[str]) -> None:
    assert [" ".join(line) for line in queues("x", mbit, milliseconds)] == wanted


@pytest.mark.parametrize(
    "words, said",
    [
        (["p2pdl-none", "--rate", "1mbit"], "no network device"),
        (["lo"], "nothing to do"),
        (["lo", "--rate", "100"], "no number with a unit"),
        (["lo", "--rate", "-5mbit"], "no number with a unit"),
        (["lo", "--rate", "0mbit"], "no link is like that"),
        (["lo", "--rate", "900gbit"], "no link is like that"),
        (["lo", "--latency", "20"], "no number with a unit"),
        (["lo", "--latency", "0ms"], "no link is like that"),
        (["lo", "--latency", "1000s"], "no link is like that"),
        (["lo", "--undo", "--rate", "1mbit"], "--undo goes alone"),
    ],
)
def test_nonsense_is_refused_with_a_remedy(words: list[str], said: str) -> None:
    done = shape(*words)
    assert done.returncode == 2 and said in done.stderr and "  -> " in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def host() -> Iterator[tuple[str, ...]]:
    """What goes before a command, so that it runs where nothing but the test is shaped."""
    with ShapedNetwork(2) as network:
        yield "ip", "netns", "exec", network.namespace(0)


def root_queue(within: tuple[str, ...]) -> str:
    command = [*within, "tc", "qdisc", "show", "dev", "eth0"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.root
def test_rate_is_applied_replaced_and_undone(host: tuple[str, ...]) -> None:
    before = root_queue(host)
    assert "rate" not in before
    for rate, shown in (("100mbit", "rate 100Mbit"), ("1gbit", "rate 1Gbit")):
        done = shape("eth0", "--rate", rate, "--apply", within=host)
        assert done.returncode == 0 and done.stdout.startswith("done: tc qdisc replace dev eth0"), done.stderr
        assert shown in root_queue(host) and root_queue(host).count("qdisc") == 1
    assert shape("eth0", "--undo", within=host).returncode == 0
    assert root_queue(host) == before
    again = shape("eth0", "--undo", within=host)
    assert again.returncode == 2 and "no queue that tools/shape has made" in again.stderr


@pytest.mark.root
def test_queue_of_others_is_not_undone(host: tuple[str, ...]) -> None:
    command = [*host, "tc", "qdisc", "replace", "dev", "eth0", "root", "handle", "9:", "pfifo"]
    subprocess.run(command, check=True)
    assert shape("eth0", "--undo", within=host).returncode == 2
    assert "pfifo 9:" in root_queue(host)


@pytest.mark.root
def test_latency_is_applied_or_refused_and_then_nothing_is_changed(host: tuple[str, ...]) -> None:
    before = root_queue(host)
    done = shape("eth0", "--rate", "100mbit", "--latency", "20ms", "--apply", within=host)
    if has_netem():
        assert done.returncode == 0 and {"netem", "tbf"} <= set(root_queue(host).split())
        assert shape("eth0", "--undo", within=host).returncode == 0
    else:
        assert done.returncode == 2 and "modprobe" in done.stderr
    assert root_queue(host) == before
