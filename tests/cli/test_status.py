"""`p2pdl status`: what people see of a cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from p2pdl.cli import program
from p2pdl.cli.status import view
from p2pdl.node.cluster_status import NodeStatus
from p2pdl.protocol.messages import StatusReply
from p2pdl.server.view import status_block
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS
from tests.pretended_clusters import free_ports, write_configuration
from tests.processes import ROOT, server
from tests.stores import new_store


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["status", *arguments])


def write_status(store: int, **fields: object) -> None:
    writer = Block(store, STATUS)
    writer.write(status_block(now=0.0, **fields))  # type: ignore[arg-type]
    writer.close()


def test_nodes_that_answer_and_nodes_that_do_not_stand_in_one_table(tmp_path: Path) -> None:
    ports = free_ports(2)
    file = write_configuration(tmp_path, ports=ports)
    with new_store() as store, server(store, address=f"127.0.0.1:{ports[0]}", node="node1"):
        peers = [{"name": "node2", "address": f"127.0.0.1:{ports[1]}", "state": "failing", "last_error": "gone away"}]
        write_status(store, state="training", step=5, steps=20, loss=0.5, peers=peers)
        result = run("--config", str(file))
        as_json = run("--config", str(file), "--json")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["cluster", "lab"] in rows
    assert [row[:5] for row in rows if row[:1] == ["node1"]] == [
        ["node1", f"127.0.0.1:{ports[0]}", "training", "5/20", "0.500"],
        ["node1", "on", "node2:", "gone", "away"],
    ]
    assert ["node2", f"127.0.0.1:{ports[1]}", "no", "answer"] in rows
    assert "node2: no answer within 2 s" in result.stdout
    assert as_json.exit_code == 0
    told = json.loads(as_json.stdout)
    assert told["cluster"] == "lab"
    assert [(node["name"], node["state"]) for node in told["nodes"]] == [("node1", "training"), ("node2", "no answer")]
    assert told["nodes"][0]["step"] == 5
    assert told["nodes"][0]["peers"] == peers


def test_one_address_shows_the_cluster_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with new_store() as store, server(store) as running:
        write_status(store, state="finished")
        result = run("--address", running.address)
    assert result.exit_code == 0
    assert "cluster lab" in result.stdout
    assert "alpha" in result.stdout


def test_cluster_that_does_not_run_is_exit_code_1(tmp_path: Path) -> None:
    result = run("--config", str(write_configuration(tmp_path, nodes=2)))
    assert result.exit_code == 1
    assert result.stdout.count("no answer within 2 s") == 2


def test_address_where_nobody_is_is_one_message() -> None:
    result = run("--address", f"127.0.0.1:{free_ports(1)[0]}")
    assert result.exit_code == 1
    assert "no answer within 2 s" in result.stderr
    assert "is a node running there" in result.stderr


def test_wrong_ways_to_say_whom_to_ask_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(write_configuration(tmp_path, nodes=1))
    both = run("--config", file, "--address", "127.0.0.1:1")
    assert both.exit_code == 2
    assert "give one of them" in both.stderr
    for address in ("127.0.0.1", "127.0.0.1:99999", "::1:7101"):
        result = run("--address", address)
        assert result.exit_code == 2
        assert "--address" in result.stderr


def test_exchange_has_a_table_of_its_own() -> None:
    figures = {
        **{"seconds_per_step": 0.0125, "merges": 40, "merges_skipped": 3, "bytes_received": 5e6, "bytes_sent": 4e6},
        **{"mbit_per_second_in": 12.345, "mbit_per_second_out": 0.0},
        **{"merged_age": 12.3, "merged_staleness": 1234, "merged_codec": "mean-threshold:int8"},
        **{"compute_seconds": 99.0, "publish_seconds": 0.5, "wait_seconds": 0.0, "merge_seconds": 0.5},
    }
    peers = ({"name": "node2", "state": "live"}, {"name": "node3", "state": "failing"})
    exchanging = StatusReply("x", "training", 5, 20, 320, 0.5, 0.25, figures, peers)  # type: ignore[arg-type]
    alone = StatusReply("y", "training", 5, 20, 320, 0.5, 0.25, {"seconds_per_step": 0.0125}, ())
    nodes = [
        NodeStatus("node1", "192.168.1.10:7101", exchanging),
        NodeStatus("node2", "192.168.1.11:7101", alone),
        NodeStatus("node3", "192.168.1.12:7101", None, "no answer within 2 s"),
    ]
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(view("lab", nodes))
    text = captured.get()
    assert "…" not in text
    rows = [line.split() for line in text.splitlines()]
    assert [
        "node1",
        "192.168.1.10:7101",
        "training",
        "5/20",
        "0.500",
        "12.5",
        "40",
        "(3)",
        "5.0",
        "1/2",
        "0.2",
        "s",
    ] in rows
    assert ["node1", "12.3", "0", "mean-threshold:int8", "12", "1,234", "99", "0.5", "0.0", "0.5"] in rows
    # Only nodes that exchange have a row there, and without any there is no such table.
    assert [row[0] for row in rows if row[:1] == ["node2"]] == ["node2"]
    with console.capture() as captured:
        console.print(view("lab", nodes[1:]))
    assert "Mbit/s" not in captured.get()


def test_what_a_peer_says_cannot_move_the_cursor() -> None:
    evil = "\x1b[2Jgone\x07"
    status = StatusReply(
        incarnation="x",
        state=evil,
        step=1,
        steps=2,
        samples=3,
        loss=None,
        age=None,
        figures={"merges": evil, "seconds_per_step": evil, "merged_codec": evil, "wait_seconds": evil},
        peers=({"name": evil, "state": "failing", "last_error": evil},),
    )
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        console.print(view(evil, [NodeStatus(evil, evil, status), NodeStatus(evil, evil, None, evil)]))
    assert "\x1b" not in captured.get()
    assert "\x07" not in captured.get()


def test_watch_asks_again_until_ctrl_c(tmp_path: Path) -> None:
    ports = free_ports(1)
    file = write_configuration(tmp_path, ports=ports)
    with new_store() as store, server(store, address=f"127.0.0.1:{ports[0]}", node="node1"):
        watching = subprocess.Popen(
            [sys.executable, "-m", "p2pdl", "status", "--config", str(file), "--watch", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate()
    assert [look["nodes"][0]["state"] for look in looks] == ["starting", "starting"]
    assert watching.returncode == 130
    assert said == ""
