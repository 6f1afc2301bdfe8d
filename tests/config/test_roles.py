"""Who serves and who trains: roles that do not fit the strategy, and what a server cannot do, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.cases import GOOD, read, report

SERVED = GOOD.replace(":7101\n", ":7101\n    role: server\n") + "strategy: parameter-server\n"
"""The first of three nodes is a server; what a test adds begins in line 12."""


def test_server_and_workers_are_told_apart(tmp_path: Path) -> None:
    configuration = read(tmp_path, SERVED)
    assert [entry.name for entry in configuration.servers] == ["node1"]
    # The data are divided among those that train.
    assert configuration.founders == ("node2", "node3")
    assert [configuration.place(name) for name in ("node2", "node3")] == [0, 1]
    assert configuration.names == ("node1", "node2", "node3")


def test_several_servers_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    configuration = read(tmp_path, SERVED, "nodes.2.role=server")
    assert [entry.name for entry in configuration.servers] == ["node1", "node3"]


@pytest.mark.parametrize("strategy", ["gossip", "single"])
def test_server_without_its_strategy_is_refused(tmp_path: Path, strategy: str) -> None:
    text = report(tmp_path, SERVED.replace("strategy: parameter-server", f"strategy: {strategy}"))
    assert text == (
        f"peers.yaml:6: nodes[0].role: found `server`, and `strategy: {strategy}` has none"
        "\n  -> write `strategy: parameter-server`, or remove the line"
    )


def test_server_under_the_default_strategy_is_refused(tmp_path: Path) -> None:
    text = report(tmp_path, SERVED.replace("strategy: parameter-server\n", ""))
    assert "peers.yaml:6: nodes[0].role: found `server`, and `strategy: gossip` has none" in text


def test_strategy_without_a_server_is_refused(tmp_path: Path) -> None:
    text = report(tmp_path, SERVED.replace("    role: server\n", ""))
    assert text == (
        "peers.yaml:10: strategy: found `parameter-server`, and no node is a server"
        "\n  -> write `role: server` in one entry of `nodes`"
    )


def test_servers_without_a_worker_are_refused(tmp_path: Path) -> None:
    text = report(tmp_path, SERVED, "nodes.1.role=server", "nodes.2.role=server")
    assert "nodes: has servers only, and nobody who trains\n  -> add a node without `role: server`" in text


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "server:\n  policy: adsp\n  optimizer: server",
            "peers.yaml:14: server.optimizer: found `server`, and `policy: adsp` lets every worker train on its own "
            "between two pushes\n  -> write `optimizer: worker`, or `auto`",
        ),
        (
            "train:\n  optimizer: {name: adam, learning_rate: 1e-3}",
            "peers.yaml:13: train.optimizer: found `adam`, and a parameter server knows sgd with momentum and nesterov"
            "\n  -> write `server: {optimizer: worker}`: then each worker has its own",
        ),
        (
            "train:\n  optimizer: {name: sgd, arguments: {momentum: 0.9, weight_decay: 0.1}}",
            "found sgd with `weight_decay`, and a parameter server knows sgd",
        ),
    ],
)
def test_optimizer_that_no_server_has_is_refused(tmp_path: Path, added: str, expected: str) -> None:
    text = report(tmp_path, f"{SERVED}{added}\n")
    assert expected in text
    assert text.count("\n  -> ") == 1, "one mistake, one report"


@pytest.mark.parametrize(
    "added",
    [
        "server: {policy: adsp}\ntrain: {optimizer: {name: adam, learning_rate: 1e-3}}",
        "server: {policy: adsp, optimizer: worker}",
        "server: {optimizer: worker}\ntrain: {optimizer: {name: adam, learning_rate: 1e-3}}",
        "train: {optimizer: {name: sgd, arguments: {momentum: 0.9, nesterov: true}}}",
        "train: {optimizer: {name: sgd, arguments: {}}}",
    ],
)
def test_optimizer_of_the_worker_or_known_to_the_server_is_accepted(tmp_path: Path, added: str) -> None:
    assert report(tmp_path, f"{SERVED}{added}\n") == ""


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "server: {range: auto, optimizer: worker}",
            "peers.yaml:12: server.range: found `auto`, and the optimizer is at the workers, which push the whole "
            "change\n  -> write `all`, or `optimizer: server` with another policy than adsp",
        ),
        ("server: {range: 3, policy: adsp}", "server.range: found `3`, and the optimizer is at the workers"),
        (
            "server: {range: 3}\ncompress: {sparsifier: esgd}",
            "peers.yaml:12: server.range: found `3`, and `esgd` chooses from the whole model what is pushed"
            "\n  -> write `all`, or `compress: {sparsifier: none}`",
        ),
    ],
)
def test_range_of_what_is_not_pushed_in_ranges_is_refused(tmp_path: Path, added: str, expected: str) -> None:
    text = report(tmp_path, f"{SERVED}{added}\n")
    assert expected in text
    assert text.count("\n  -> ") == 1, "one mistake, one report"


@pytest.mark.parametrize("size", ["all", "auto", "1", "80"])
def test_range_of_gradients_is_accepted(tmp_path: Path, size: str) -> None:
    assert report(tmp_path, f"{SERVED}server: {{range: {size}, policy: ssp}}\n") == ""


def test_optimizer_of_the_gossip_strategy_is_no_servers_business(tmp_path: Path) -> None:
    read(tmp_path, GOOD + "train: {optimizer: {name: adam, learning_rate: 1e-3}}\n")


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("server: {policy: bps}", "server.policy: found `bps`; wanted one of bsp, ssp, asp, adsp"),
        ("server: {staleness: -1}", "server.staleness: found `-1`; wanted a whole number from 0"),
        ("server: {update_rule: congsd}", "-> write `update_rule: consgd`"),
        ("server: {rate: 0}", "server.rate: found `0`; wanted"),
        ("server: {range: most}", "found `most`: it is not all, auto, or a whole number from 1\n  -> write `auto`, or"),
        ("server: {range: 0}", "server.range: found `0`: it is not all, auto, or a whole number from 1"),
        ("server: {lease: 0}", "server.lease: found `0`; wanted"),
        ("server: {check_period: 0}", "server.check_period: found `0`; wanted"),
        ("server: {search_window: 0}", "server.search_window: found `0`; wanted"),
        ("server: {search_period: 0}", "server.search_period: found `0`; wanted"),
        ("server: {pushes: 0}", "server.pushes: found `0`; wanted a whole number from 1"),
        ("compress: {sparsifier: topk}", "compress.sparsifier: found `topk`; wanted one of none, threshold"),
        ("compress: {kept: 0}", "compress.kept: found `0`; wanted"),
        ("compress: {kept: 1.5}", "compress.kept: found `1.5`; wanted"),
        ("compress: {threshold: 0}", "compress.threshold: found `0`; wanted"),
    ],
)
def test_setting_of_a_server_with_a_wrong_value_is_reported(tmp_path: Path, added: str, expected: str) -> None:
    text = report(tmp_path, f"{SERVED}{added}\n")
    assert expected in text
    assert text.count("\n  -> ") == 1, "one mistake, one report"


def test_wrong_role_hides_no_other_mistake_and_makes_none_up(tmp_path: Path) -> None:
    text = report(tmp_path, SERVED.replace("role: server", "role: sever") + "train: {seed: x}\n")
    assert "peers.yaml:6: nodes[0].role: found `sever`; wanted one of worker, server" in text
    assert "peers.yaml:12: train.seed" in text
    assert text.count("\n  -> ") == 2
