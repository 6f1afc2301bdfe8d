"""What nodes of one run must share, and what a node that joins takes over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pdl.config import load
from p2pdl.errors import IncompatiblePeer
from p2pdl.node.joining import disagreements
from p2pdl.node.shared_settings import SHARED, differences, hindrances, shared_settings, with_settings
from tests.pretended_clusters import configuration

NEWCOMER = """
cluster: {name: lab}
nodes: [{name: late, address: 127.0.0.1:7109}]
train: {seed: 5, threads: 2}
gossip: {topology: ring}
"""


def newcomer(folder: Path, text: str = NEWCOMER):
    file = folder / "late.yaml"
    file.write_text(text)
    return load(file)


def test_shared_settings_survive_the_way_over_the_wire(tmp_path: Path) -> None:
    settings = shared_settings(configuration(tmp_path))
    assert json.loads(json.dumps(settings)) == settings
    assert {*SHARED, "cluster", "nodes"} == settings.keys()
    assert [node["name"] for node in settings["nodes"]] == ["node1", "node2", "node3", "node4"]


def test_newcomer_takes_over_what_is_shared_and_keeps_what_is_its_own(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, more="train: {seed: 7, batch_size: 16, passes: 9}\nmodel: {width: 0.5}\n")
    own = newcomer(tmp_path)
    joined = with_settings(own, "late", shared_settings(cluster))
    assert (joined.train.seed, joined.train.batch_size, joined.train.passes, joined.model.width) == (7, 16, 9, 0.5)
    assert (joined.train.threads, joined.gossip.topology) == (2, "ring")
    assert joined.names == ("node1", "node2", "node3", "node4", "late")
    assert joined.joined == ("late",) and joined.founders == cluster.names
    assert shared_settings(joined) == shared_settings(cluster)
    assert disagreements(own, joined) == [
        "model.width is 0.5 in the cluster and 1.0 in late.yaml; the cluster's value is used",
        "train.passes is 9.0 in the cluster and 3.0 in late.yaml; the cluster's value is used",
        "train.batch_size is 16 in the cluster and 64 in late.yaml; the cluster's value is used",
        "train.seed is 7 in the cluster and 5 in late.yaml; the cluster's value is used",
    ]


def test_node_of_the_list_that_joins_again_keeps_its_place(tmp_path: Path) -> None:
    cluster = configuration(tmp_path)
    own = newcomer(tmp_path, NEWCOMER.replace("late", "node3"))
    joined = with_settings(own, "node3", shared_settings(cluster))
    assert joined.names == cluster.names and joined.joined == ()
    assert str(joined.node("node3").address) == "127.0.0.1:7109"


def test_node_of_another_cluster_is_not_joined(tmp_path: Path) -> None:
    own = newcomer(tmp_path, NEWCOMER.replace("lab", "other"))
    with pytest.raises(IncompatiblePeer, match="belongs to cluster 'lab', and .* to 'other'"):
        with_settings(own, "late", shared_settings(configuration(tmp_path)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda settings: settings.pop("model"),
        lambda settings: settings["train"].pop("seed"),
        lambda settings: settings["train"].update(seed="5"),
        lambda settings: settings.update(nodes=[1]),
        lambda settings: settings.update(nodes=[{"name": "x", "address": "nowhere"}]),
        lambda settings: settings.update(data=None),
    ],
)
def test_settings_that_are_none_are_one_message(tmp_path: Path, damage) -> None:
    settings = shared_settings(configuration(tmp_path))
    damage(settings)
    with pytest.raises(IncompatiblePeer, match="that node's settings are not"):
        with_settings(newcomer(tmp_path), "late", settings)


@pytest.mark.parametrize("section, key", [("model", "name"), ("data", "source")])
def test_function_that_only_a_peer_names_is_never_called(tmp_path: Path, section: str, key: str) -> None:
    settings = shared_settings(configuration(tmp_path))
    settings[section][key] = "subprocess:call"
    with pytest.raises(IncompatiblePeer, match="functions that a peer names are not called") as caught:
        with_settings(newcomer(tmp_path), "late", settings)
    assert f"{key}: subprocess:call" in caught.value.remedy
    settings[section][key] = "mine:make"
    own = newcomer(tmp_path, NEWCOMER + f"{section}: {{{key}: 'mine:make'}}\n")
    assert getattr(getattr(with_settings(own, "late", settings), section), key) == "mine:make"


@pytest.mark.parametrize(
    "name, value",
    [
        ("learning_rate", {"module": "builtins", "class_name": "print", "config": {}}),
        ("learning_rate", 0.5),
        ("inner_optimizer", {"class_name": "SGD", "config": {}}),
        ("momentum", [0.9]),
    ],
)
def test_object_that_a_peer_describes_is_never_built(tmp_path: Path, name: str, value: object) -> None:
    settings = shared_settings(configuration(tmp_path))
    settings["train"]["optimizer"]["arguments"] = {name: value}
    with pytest.raises(IncompatiblePeer, match="objects that a peer describes are not built") as caught:
        with_settings(newcomer(tmp_path), "late", settings)
    assert f"train.optimizer.arguments.{name}" in caught.value.remedy


def test_plain_arguments_of_an_optimizer_are_taken_over(tmp_path: Path) -> None:
    settings = shared_settings(configuration(tmp_path))
    settings["train"]["optimizer"]["arguments"] = {"momentum": 0.5, "nesterov": True}
    joined = with_settings(newcomer(tmp_path), "late", settings)
    assert joined.train.optimizer.arguments == {"momentum": 0.5, "nesterov": True}


def test_differences_name_every_key_and_some_do_not_hinder_a_run_to_go_on(tmp_path: Path) -> None:
    here = shared_settings(configuration(tmp_path))
    there = json.loads(json.dumps(here))
    there["train"]["passes"] = 99.0
    there["train"]["optimizer"]["learning_rate"] = 0.5
    there["train"]["optimizer"]["arguments"] = {"momentum": 0.5, "nesterov": True}
    there["nodes"].pop()
    assert [it.key for it in differences(here, there)] == [
        "train.passes",
        "train.optimizer.learning_rate",
        "train.optimizer.arguments.momentum",
        "train.optimizer.arguments.nesterov",
        "nodes",
    ]
    assert [it.key for it in hindrances(here, there)] == [
        "train.optimizer.arguments.momentum",
        "train.optimizer.arguments.nesterov",
        "nodes",
    ]
    assert differences(here, here) == []
