"""`p2pdl up` with nodes that only pretend: the closing table, the JSON object and the exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from p2pdl.cli import program
from p2pdl.cli.closing_table import results_table
from p2pdl.cli.live_table import LiveTable
from p2pdl.cli.observers import LINE_SECONDS, ProgressLines
from p2pdl.config import Configuration
from p2pdl.node import local_nodes
from p2pdl.node.cluster import NodeProgress
from p2pdl.node.cluster_status import NodeStatus
from p2pdl.node.node_output import Message
from p2pdl.node.run_folder import run_folder
from p2pdl.protocol.messages import StatusReply
from tests.pretended_clusters import pretend, write_configuration

Up = Callable[..., Result]


@pytest.fixture
def passed_on() -> list[str]:
    """The overrides that `up` gave to its nodes."""
    return []


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed_on: list[str]) -> Up:
    """Runs `p2pdl up` over nodes with roles."""

    def run(*arguments: str, roles: dict[str, str] | None = None, nodes: int = 2, more: str = "") -> Result:
        def command(
            configuration: Configuration, name: str, overrides: list[str], lifeline: int, fresh: bool
        ) -> list[str]:
            passed_on[:] = [*overrides, *(["--fresh"] if fresh else [])]
            return pretend(run_folder(configuration), roles or {})(name, lifeline)

        monkeypatch.setattr(local_nodes, "node_command", command)
        file = write_configuration(tmp_path, nodes, more=more)
        return CliRunner().invoke(program, ["up", "--config", str(file), *arguments])

    return run


def test_closing_table_has_each_node_before_and_after_the_merge(up: Up, tmp_path: Path) -> None:
    result = up()
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["node1", "done", "0.8000", "0.9000", "0.250", "7", "-", "-", "-", "-", "-", "-"] in rows
    assert "consensus of node1, node2: test accuracy 0.9000, loss 0.250" in result.stdout
    model = tmp_path / "runs" / "lab" / "model.keras"
    assert f"its model is {model}" in result.stdout
    assert model.read_text() == "model of node1"


def test_json_is_the_clusters_summary_and_nothing_else(up: Up, tmp_path: Path) -> None:
    result = up("--json", roles={"node1": "talks"})
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary == json.loads((tmp_path / "runs" / "lab" / "summary.json").read_text())
    assert summary["consensus"] == {"test_loss": 0.25, "test_accuracy": 0.9, "nodes": ["node1", "node2"]}
    assert "node1: warning: node9 is not there" in result.stderr
    assert "printed by a function of the user's" in result.stderr
    assert "nothing much" not in result.stderr


def test_node_that_fails_is_named_and_the_rest_has_its_results(up: Up) -> None:
    result = up(roles={"node2": "fails"})
    assert result.exit_code == 1
    assert "p2pdl: failed: node2 (exit code 1)" in result.stderr
    assert "node2: error: the loss is no longer finite\n  -> lower the learning rate" in result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[1] for row in rows if row[:1] in (["node1"], ["node2"])] == ["done", "failed"]


def test_node_that_was_killed_has_a_row_with_the_reason(up: Up) -> None:
    result = up("--quiet", roles={"node1": "dies"})
    assert result.exit_code == 1
    assert "node1 failed: it left no summary: ended by SIGKILL" in result.stdout


def test_mistake_of_all_nodes_is_shown_once_and_leaves_nothing(up: Up, tmp_path: Path) -> None:
    result = up("--json", roles={"node1": "cannot-start", "node2": "cannot-start"})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("there is no such file") == 1
    assert "  -> write another one" in result.stderr
    assert "p2pdl: nothing runs: " in result.stderr
    assert not (tmp_path / "runs" / "lab" / "summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "train.threads=4"),
        (("--set", "train.threads=3"), "train.threads=3"),
        (("--set", "train.threads=0"), "train.threads=4"),
    ],
)
def test_cores_are_divided_unless_threads_are_set(
    up: Up, passed_on: list[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(local_nodes, "cores", lambda: 9)
    assert up(*arguments).exit_code == 0
    assert passed_on == [*arguments[1:], expected]


def test_one_core_gives_every_node_one_thread(up: Up, passed_on: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_nodes, "cores", lambda: 1)
    up()
    assert passed_on == ["train.threads=1"]


def test_only_nodes_of_this_machine_are_run(up: Up, tmp_path: Path) -> None:
    far = "- {name: far, address: '192.0.2.1:7101', bind: '0.0.0.0:7101'}"
    result = up("--json", more=f"  {far}\nsecurity: none\n")
    assert [node["node"] for node in json.loads(result.stdout)["nodes"]] == ["node1", "node2"]


def test_file_without_a_node_of_this_machine_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    file.write_text("cluster: {name: lab}\nnodes: [{name: far, address: '192.0.2.1:7101', bind: '0.0.0.0:7101'}]\n")
    result = CliRunner().invoke(program, ["up", "--config", str(file)])
    assert result.exit_code == 2
    assert "has an address of this machine (far 192.0.2.1:7101)" in result.stderr


def test_node_command_is_what_a_user_would_type(tmp_path: Path) -> None:
    from p2pdl.config import load

    configuration = load(write_configuration(tmp_path, nodes=1))
    command = local_nodes.node_command(configuration, "node1", ["train.steps=3", "gossip.clamp=[0.1, 0.9]"], 7)
    assert command[1:] == [
        *("-m", "p2pdl", "node", "--config", str(tmp_path / "peers.yaml"), "--name", "node1"),
        *("--set", "train.steps=3", "--set", "gossip.clamp=[0.1, 0.9]", "--lifeline", "7"),
    ]


def progress(step: int, state: str = "training", exit_code: int | None = None, local: bool = True) -> NodeProgress:
    figures = {
        "seconds_per_step": 0.0125,
        "merges": 4,
        "merges_skipped": 1,
        "bytes_received": 2.5e6,
        "seconds_left": 61.0,
        "mbit_per_second_in": 93.44,
        "mbit_per_second_out": 1234.4,
        "merged_age": 0.321,
        "merged_staleness": 17,
        "merged_codec": "top-k:0.02:int8",
        "compute_seconds": 8.6,
        "publish_seconds": 0.25,
        "wait_seconds": 1.1,
        "merge_seconds": 0.05,
    }
    peers = ({"state": "live"}, {"state": "failing"})
    status = StatusReply("x", state, step, 20, 640, 0.25, 0.1, figures, peers)
    return NodeProgress("node1", local, exit_code, NodeStatus("node1", "127.0.0.1:1", status))


def drawn(nodes: list[NodeProgress], width: int) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, _environ={})
    with LiveTable(console) as table:
        table.progress(nodes)
        table.message(Message("node1", "warning", "node2 is not there"))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [80, 130])
def test_live_table_has_every_figure_whatever_the_width(width: int) -> None:
    silent = NodeProgress("node2", False, None, None)
    text = drawn([progress(5), silent], width)
    for word in ("training", "5/20", "0.250", "12.5", "4 (1)", "2.5", "1/2", "1:01", "no answer"):
        assert word in text
    for word in ("93.4", "1,234", "0.32", "17", "top-k:0.02:int8"[: width - 75], "86", "2.5", "11", "0.5"):
        assert word in text
    assert "node1: warning: node2 is not there" in text


def test_tables_fit_into_100_columns_with_every_figure_whole() -> None:
    nodes = [progress(12345), NodeProgress("node2", True, None, None)]
    lines = drawn(nodes, 100).splitlines()
    rows = [line.split() for line in lines if line.lstrip().startswith("node1 ")]
    assert ["node1", "93.4", "1,234", "top-k:0.02:int8", "0.32", "17", "86", "2.5", "11", "0.5"] in rows
    assert all("…" not in line for line in lines)


def test_closing_table_has_traffic_and_waiting_in_100_columns() -> None:
    node = {
        **{"node": "node1", "state": "stopped", "test_accuracy": 0.9, "test_loss": 0.25, "steps": 12_345},
        **{"seconds_per_step": {"median": 0.0125}, "merges": 123_456, "merges_skipped": 12},
        **{"bytes_received": 5.4321e9, "bytes_sent": 2.5e6, "wait_seconds": 1234.5},
    }
    console = Console(file=io.StringIO(), width=100)
    console.print(results_table([node]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    [row] = [line.split() for line in text.splitlines() if "stopped" in line]
    assert row[2:] == ["0.9000", "-", "0.250", "12,345", "12.5", "123,456", "12", "5,432", "2.5", "1,234"]


@pytest.mark.parametrize(
    ("node", "state"),
    [
        (progress(20, "merged", 0), "done"),
        (progress(20, "training", -9), "failed"),
        (progress(20, "stopped", 0), "stopped"),
        (NodeProgress("node1", True, None, None), "starting"),
        (NodeProgress("node1", True, 1, None), "failed"),
    ],
)
def test_state_is_what_the_process_came_to(node: NodeProgress, state: str) -> None:
    assert state in drawn([node], 100)


def test_progress_line_comes_every_few_seconds_and_only_when_something_changed() -> None:
    now = 0.0
    written = io.StringIO()
    lines = ProgressLines(Console(file=written, width=200), lambda: now)
    lines.progress([progress(1)])
    assert written.getvalue() == ""
    now = LINE_SECONDS
    lines.progress([progress(5)])
    now = 1.5 * LINE_SECONDS
    lines.progress([progress(6)])
    now = 2 * LINE_SECONDS
    lines.progress([progress(5)])
    assert written.getvalue() == "0:05  node1 step 5 of 20, loss 0.250, 1:01 left\n"
