"""`p2pdl status`: what people see of a cluster."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from p2pdl.cli import program
from p2pdl.cli.status import view
from p2pdl.cli.troubles import LINES, duration, troubles
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
    ]
    assert "node1: node2 is failing; last error: gone away".split() in rows
    assert ["node2", f"127.0.0.1:{ports[1]}", "no", "answer"] in rows
    assert "node2: no answer within 2 s: refuses connections".split() in rows
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


def reply(*peers: dict[str, Any], state: str = "training") -> StatusReply:
    return StatusReply("x", state, 5, 20, 320, 0.5, 0.25, {"merges": 1}, peers)


def drawn(*nodes: NodeStatus, width: int = 100) -> list[str]:
    """The lines that a terminal shows."""
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(view("lab", nodes))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_who_sees_whom_how_is_a_line_for_each_trouble_worst_first() -> None:
    dead = {"member": "dead", "since": 12.3, "member_error": "no answer to 4 probes"}
    silent = {"state": "failing", "last_error": "10.0.0.3:7101: no answer within 2 s", "last_error_age": 15.2}
    alive, live = {"member": "alive", "since": 300.0}, {"state": "live"}
    nodes = [
        NodeStatus(
            "node1",
            "10.0.0.1:7101",
            reply(
                {"name": "node5", **alive, "state": "quarantined", "last_error": "rejected", "last_error_age": 600.0},
                {"name": "node6", "member": "unknown", "state": "unknown"},
                {"name": "node7", "member": "left", "state": "failing", "last_error": "gone"},
                {"name": "node2", **alive, **live, "last_error": "busy", "last_error_age": 0.1},
            ),
        ),
        NodeStatus(
            "node2",
            "10.0.0.2:7101",
            reply(
                {"name": "node1", **alive, **live},
                {"name": "node3", **dead, **silent},
                {"name": "node4", "member": "suspect", "since": 2.0, "member_error": "2 probes", "state": "live"},
                # Of itself a node says nothing.
                {"name": "node2", **dead, **silent},
            ),
        ),
        NodeStatus("node4", "10.0.0.4:7101", reply({"name": "node3", **dead, **silent, "last_error_age": 99.0})),
        NodeStatus("node6", "10.0.0.6:7101", None, "no answer within 2 s"),
        NodeStatus("node7", "10.0.0.7:7101", None, "no answer within 2 s"),
    ]
    lines = drawn(*nodes)
    assert all(len(line) <= 100 for line in lines)
    assert [" ".join(line.split()) for line in lines[-7:]] == [
        "node6: no answer within 2 s",
        "node2, node4: node3 is dead for 12 s (no answer to 4 probes), exchange failing; last error 15 s ago:",
        "10.0.0.3:7101: no answer within 2 s",
        "node1: node5 is quarantined; last error 10 min ago: rejected",
        "node2: node4 is suspect for 2 s (2 probes)",
        "node1: node6 has not been heard of yet",
        "node1: node2 is live; last error 0.1 s ago: busy",
    ]
    rows = [line.split() for line in lines]
    assert ["node7", "10.0.0.7:7101", "left"] in rows
    # Who has left is no peer any more.
    assert [row[-3] for row in rows if row[:3] == ["node1", "10.0.0.1:7101", "training"]] == ["1/3"]


def test_wrapped_line_of_a_trouble_stays_apart_from_the_next_one() -> None:
    rows = [{"name": f"node{n}", "state": "failing", "last_error": "word " * 30, "last_error_age": n} for n in (2, 3)]
    lines = drawn(NodeStatus("node1", "10.0.0.1:7101", reply(*rows)))
    begins = [place for place, line in enumerate(lines) if line.startswith("node1: ")]
    assert len(begins) == 2
    assert all(line.startswith("       word") for line in lines[begins[0] + 1 : begins[1]])


def test_many_troubles_are_counted() -> None:
    rows = [{"name": f"peer{number}", "state": "failing", "last_error": "oh"} for number in range(50)]
    lines = drawn(NodeStatus("node1", "10.0.0.1:7101", reply(*rows)))
    assert sum("is failing" in line for line in lines) == LINES
    assert lines[-1].split()[:4] == ["...", "and", "30", "more"]
    nodes = [NodeStatus(f"node{number}", f"10.0.0.{number}:7101", reply(rows[0])) for number in range(1, 9)]
    assert troubles(nodes) == [("node1, node2 and 6 more", "peer0 is failing; last error: oh")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (0.95, "0.9 s"), (12.3, "12 s"), (119.0, "119 s"), (120.0, "2 min"), (7200.0, "2 h")]
    + [(86400.0 * 3, "3 days"), (None, ""), ("soon", ""), (True, "")],
)
def test_duration_is_in_its_largest_unit(seconds: object, text: str) -> None:
    assert duration(seconds) == text


def test_members_of_no_file_and_those_that_have_moved_are_asked_too(tmp_path: Path) -> None:
    ports = free_ports(2)
    file = write_configuration(tmp_path, ports=ports)
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(new_store()) for _ in range(3)]
        first = stack.enter_context(server(stores[0], address=f"127.0.0.1:{ports[0]}", node="node1"))
        moved = stack.enter_context(server(stores[1], node="node2"))
        joined = stack.enter_context(server(stores[2], node="late"))
        peers = [
            {"name": "node2", "address": moved.address, "state": "live", "member": "alive"},
            {"name": "late", "address": joined.address, "state": "live", "member": "alive"},
            {"name": "gone", "address": joined.address, "state": "failing", "member": "dead"},
        ]
        write_status(stores[0], state="training", peers=peers)
        by_file = json.loads(run("--config", str(file), "--json").stdout)
        by_address = json.loads(run("--address", first.address, "--json").stdout)
    asked = [(node["name"], node["address"], node["state"]) for node in by_file["nodes"]]
    assert asked == [
        ("node1", first.address, "training"),
        ("node2", moved.address, "starting"),
        ("late", joined.address, "starting"),
    ]
    assert {"node1", "node2", "late"} <= {node["name"] for node in by_address["nodes"]}
    assert by_file["nodes"][0]["peers"] == peers


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
