from __future__ import annotations

from pathlib import Path

import pytest

from p2pdl.config import Address
from tests.config.cases import GOOD, read, report


def test_set_replaces_settings_of_every_kind(tmp_path: Path) -> None:
    configuration = read(
        tmp_path,
        GOOD + "train:\n  seed: 1\n",
        "train.seed=2",
        "train.optimizer.learning_rate=1e-3",
        "train.optimizer.arguments.nesterov=true",
        "gossip.clamp=[0.2, 0.8]",
        "gossip.overlap=false",
        "model.name=zoo.nets:build",
        "model.arguments={depth: 3}",
        "nodes.1.address=10.0.0.2:7000",
        "nodes[2].bind=0.0.0.0:7000",
        " metrics.interval = 5 ",
    )
    assert configuration.train.seed == 2
    assert configuration.train.optimizer.learning_rate == 0.001
    assert configuration.train.optimizer.arguments == {"nesterov": True}
    assert configuration.gossip.clamp == (0.2, 0.8)
    assert configuration.gossip.overlap is False
    assert configuration.model.name == "zoo.nets:build"
    assert configuration.model.arguments == {"depth": 3}
    assert configuration.nodes[1].address == Address("10.0.0.2", 7000)
    assert configuration.nodes[2].listen == Address("0.0.0.0", 7000)
    assert configuration.metrics.interval == 5.0


def test_set_same_key_twice_the_last_one_counts(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD, "train.seed=2", "train.seed=3").train.seed == 3


def test_set_value_with_equals_sign_is_kept_whole(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD, "data.source=npz:a=b.npz").data.source == "npz:a=b.npz"


def test_set_reaches_into_a_section_that_is_empty_in_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + "train:\n  optimizer:\n", "train.optimizer.name=adam").train.optimizer.name == "adam"


def test_set_node_of_the_graph_with_a_number_for_a_name(tmp_path: Path) -> None:
    text = GOOD.replace("node1", '"1"') + "gossip:\n  topology: static\n  graph: {node2: [], node3: []}\n"
    graph = read(tmp_path, text, "gossip.graph.1=[node2]").gossip.graph
    assert graph == {"1": ("node2",), "node2": (), "node3": ()}


@pytest.mark.parametrize(
    ("flag", "passes", "steps"),
    [("train.steps=7", 3.0, 7), ("train.passes=5", 5.0, None), ("train.steps=null", 2.0, None)],
)
def test_set_length_of_training_replaces_the_other_one_of_the_file(
    tmp_path: Path, flag: str, passes: float, steps: int | None
) -> None:
    given = "  steps: 9\n" if "passes" in flag else "  passes: 2\n"
    train = read(tmp_path, GOOD + "train:\n" + given, flag).train
    assert (train.passes, train.steps) == (passes, steps)


def test_set_both_lengths_of_training_is_refused(tmp_path: Path) -> None:
    text = report(tmp_path, GOOD, "train.steps=7", "train.passes=5")
    assert text.startswith("--set: train.steps: found `7`, and `passes: 5` beside it")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("train.seed", "--set: found `train.seed`, which sets nothing\n  -> write `--set section.key=value`"),
        ("=3", "--set: found `=3`, which sets nothing"),
        ("\udc80=3", "--set: found `\\udc80=3`, which sets nothing"),
        ("train..seed=3", "--set: found `train..seed=3`, which sets nothing"),
        ("train.seed=x", "--set: train.seed: found `x`; wanted a whole number from 0 to 2147483647"),
        ("train.seed=0123", "--set: train.seed: found `0123`, which YAML reads as 83"),
        ("train.sed=1", "--set: train.sed: is not a known key\n  -> did you mean `seed`?"),
        ("tran.seed=1", "--set: tran: is not a known section\n  -> did you mean `train`?"),
        ("train=5", "--set: train: found `5`; wanted indented lines of `key: value`"),
        ("train={seed: 1, seed: 2}", "--set: train.seed: is written twice\n  -> keep one of the two"),
        ("train={seed: &a 1}", "--set: train: found the anchor &a"),
        (
            "nodes.3.name=x",
            "--set: nodes: there is no entry 3; the list has 3, counted from 0\n  -> write a number below 3",
        ),
        ("nodes.first.name=x", "--set: nodes: there is no entry first"),
        ("strategy.name=x", "--set: strategy: holds a single value, so there is no `name` in it"),
        ("nodes.0.name=NO", "--set: nodes[0].name: found `NO`, which YAML reads as false; wanted text"),
        ("nodes.0.name=node2", "peers.yaml:6: nodes[1].name: found `node2`, which is the name of nodes[0] already"),
        ("nodes.1.name=node1", "--set: nodes[1].name: found `node1`, which is the name of nodes[0] already"),
        (
            "nodes.0.address=[::1]:7101",
            "--set: nodes[0].address: not YAML: expected the node content, but found ':', at `[::1]:7101`\n"
            "  -> if it is text, give it quotes of its own: `--set 'nodes.0.address=\"[::1]:7101\"'`",
        ),
        ("train.seed=\x01", "--set: train.seed: the character U+0001 is not allowed in YAML"),
        ("cluster.runs=", "--set: cluster.runs: found nothing; wanted text\n  -> write `runs: runs`"),
    ],
)
def test_set_wrong_flag_is_reported_like_the_file(tmp_path: Path, flag: str, expected: str) -> None:
    text = report(tmp_path, GOOD + "strategy: gossip\n", flag)
    assert text.startswith(expected)
    assert text.count("\n  -> ") == 1


def test_set_replaces_a_mistake_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + "train:\n  seed: x\n", "train.seed=4").train.seed == 4


def test_set_and_file_mistakes_are_reported_together_file_first(tmp_path: Path) -> None:
    text = report(tmp_path, GOOD + "train:\n  seed: x\n", "gossip.window=0")
    assert text.index("peers.yaml:11: train.seed") < text.index("--set: gossip.window")
