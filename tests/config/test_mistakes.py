from __future__ import annotations

from pathlib import Path

import pytest

from p2pdl.errors import EXIT_USAGE, ConfigurationError
from tests.config.cases import GOOD, read, report

NODES_AT = 3
SECTION_AT = 10
"""Line of the first line that a test adds to `GOOD`."""


@pytest.mark.parametrize(
    ("added", "line", "expected"),
    [
        # unknown keys
        ("train:\n  batchsize: 3", 11, "train.batchsize: is not a known key\n  -> did you mean `batch_size`?"),
        ("train:\n  Batch-Size: 3", 11, "train.Batch-Size: is not a known key\n  -> did you mean `batch_size`?"),
        ("train:\n  learning_rate: 1", 11, "-> did you mean `train.optimizer.learning_rate`?"),
        ("train:\n  window: 1", 11, "train.window: is not a known key\n  -> did you mean `gossip.window`?"),
        ("metrics:\n  colour: red", 11, "-> remove it, or use one of interval, evaluate_every, evaluation_samples"),
        ("gosip:\n  window: 3", 10, "gosip: is not a known section\n  -> did you mean `gossip`?"),
        ("batch_size: 3", 10, "batch_size: is not a known section\n  -> did you mean `train.batch_size`?"),
        ("servers: {}", 10, "servers: is not a known section\n  -> did you mean `server`?"),
        ("gossip: {fraction: 2/3}", 10, "it is not 1/k with a whole number k"),
        ("gossip: {fraction: 0.25}", 10, "found `0.25`"),
        ("compress: {codec: int9}", 10, "-> write `codec: int8`"),
        ("compress: {density: 0}", 10, "a number from 0.0001 to 1"),
        ("server: {uploads: 0}", 10, "a whole number from 1 to 64 (pulls)"),
        ("securities: {}", 10, "securities: is not a known section\n  -> did you mean `security`?"),
        ("security: curv", 10, "security: found `curv`; wanted auto, curve, none, or indented lines of `key: value`"),
        ("security: off", 10, "security: found `off`, which YAML reads as false; wanted auto, curve, none"),
        ("security: {mode: curv}", 10, "security.mode: found `curv`; wanted one of auto, curve, none\n  -> write `mod"),
        ("security: {keys: ''}", 10, 'security.keys: found `""`: the text is empty'),
        ("checkpoints: {}", 10, "checkpoints: is not a known section"),
        ("file: x", 10, "file: is not a known section"),
        ("train:\n  epochs: 3", 11, "train.epochs: is not a known key\n  -> did you mean `train.passes`?"),
        ("train:\n  lr: 3", 11, "-> did you mean `train.optimizer.learning_rate`?"),
        # whole numbers
        ("gossip: {window: 0}", 10, "gossip.window: found `0`; wanted a whole number from 1 to 16 (requests)"),
        ("gossip: {window: 17}", 10, "-> write, for example, `window: 2`"),
        ("gossip: {range_size: 5}", 10, "wanted a whole number from 1 to 4 (MiB)"),
        ("train: {batch_size: 64.0}", 10, "found `64.0`; wanted a whole number from 1 to 1000000000 (samples)"),
        ("train: {batch_size: 64.0}", 10, "-> write `batch_size: 64`"),
        ("train: {steps: 1e3}", 10, "found `1e3`; wanted a whole number"),
        ("train: {steps: 1e3}", 10, "-> write `steps: 1000`"),
        ("train: {batch_size: true}", 10, "found `true`; wanted a whole number"),
        ("train: {batch_size: yes}", 10, "found `yes`, which YAML reads as true; wanted a whole number"),
        ('train: {batch_size: "64"}', 10, 'found `"64"`; wanted a whole number'),
        ('train: {batch_size: "64"}', 10, "-> write `batch_size: 64`"),
        ("train: {batch_size: 64.5}", 10, "-> write, for example, `batch_size: 64`"),
        ("train: {batch_size: 0123}", 10, 'quote it if it is text: `"0123"`; as a number write `123`'),
        ("train: {seed: -1}", 10, "train.seed: found `-1`; wanted a whole number from 0 to 2147483647"),
        ("train: {seed: 99999999999999999999}", 10, "wanted a whole number from 0 to 2147483647"),
        ("train:\n  seed:", 11, "train.seed: found nothing; wanted a whole number"),
        ("train:\n  seed:", 11, "-> write `seed: 0`, for example, or remove the line to get the default"),
        ("train: {seed: [1]}", 10, "train.seed: found `[1]`; wanted"),
        ("train: {seed: {a: 1}}", 10, "train.seed: found keys and values; wanted"),
        # numbers
        ("gossip: {timeout: 30s}", 10, "found `30s`; wanted a number above 0 and at most 86400, or null (s)"),
        ("gossip: {timeout: 30s}", 10, "-> write `timeout: 30`"),
        ("gossip: {timeout: 2 min}", 10, "-> write, for example, `timeout: 30`"),
        ("gossip: {timeout: 0}", 10, "found `0`; wanted a number above 0"),
        ("gossip: {linger: -1}", 10, "found `-1`; wanted a number from 0 to 604800 (s)"),
        (
            "gossip: {timeout: 1:30}",
            10,
            'YAML reads as 90\n  -> quote it if it is text: `"1:30"`; as a number write `90`',
        ),
        ("gossip: {timeout: .inf}", 10, "gossip.timeout: found `.inf`, which is not a finite number"),
        ("train:\n  optimizer:\n    learning_rate: 0,05", 12, "-> write `learning_rate: 0.05`"),
        ('train:\n  optimizer:\n    learning_rate: "1e-3"', 12, 'found `"1e-3"`; wanted a number above 0'),
        ("train:\n  optimizer:\n    learning_rate: fast", 12, "train.optimizer.learning_rate: found `fast`; wanted"),
        (
            "data: {alpha: 0.0}",
            10,
            "found `0.0`; wanted a number above 0 and at most 1000000 (concentration)\n  -> write, for",
        ),
        # truth values
        ('gossip: {overlap: "yes"}', 10, 'found `"yes"`; wanted true or false\n  -> write `overlap: true`'),
        ("gossip: {overlap: 0}", 10, "found `0`; wanted true or false\n  -> write `overlap: false`"),
        (
            "gossip: {overlap: maybe}",
            10,
            "found `maybe`; wanted true or false\n  -> write, for example, `overlap: true`",
        ),
        # choices
        (
            "gossip: {topology: rign}",
            10,
            "found `rign`; wanted one of ring, random, exponential, static\n  -> write `topo",
        ),
        (
            "gossip: {merge: average}",
            10,
            "wanted one of contribution, mean\n  -> write, for example, `merge: contribution`",
        ),
        ("strategy: solo", 10, "strategy: found `solo`; wanted one of gossip, parameter-server, single"),
        ("strategy: parameter-servers", 10, "-> write `strategy: parameter-server`"),
        ("compress: {mask: off}", 10, "found `off`, which YAML reads as false; wanted one of magnitude, signed, none"),
        ("compress: {mask: off}", 10, "-> write `mask: none`"),
        (
            "data: {augment: NO}",
            10,
            "found `NO`, which YAML reads as false; wanted one of none, flip\n  -> write `augment: none`",
        ),
        ("data: {partition: by_class}", 10, "-> write `partition: by-class`"),
        # text
        ("cluster: {runs: 2024}\n", 10, "is written twice, first in line 1"),
        ("train: {loss: 3}", 10, 'train.loss: found `3`; wanted text\n  -> quote it: `loss: "3"`'),
        ("train: {loss: mean squared}", 10, "found `mean squared`: it is not a name that Keras could know"),
        ("model: {name: NO}", 10, 'found `NO`, which YAML reads as false; wanted text\n  -> quote it: `name: "NO"`'),
        ("model: {name: 1e3}", 10, 'found `1e3`; wanted text\n  -> quote it: `name: "1e3"`'),
        (
            "model: {name: }",
            10,
            "model.name: found nothing; wanted text\n  -> write `name: mlp`, for example, or remove",
        ),
        ("model: {name: vgg18}", 10, "it is not one of mlp, cnn, vgg19, or module:function\n  -> write `vgg19`"),
        (
            "model: {name: models/net.py:build}",
            10,
            "a module is named with dots, without .py\n  -> write `models.net:build`",
        ),
        ("model: {name: net.py}", 10, "it is not one of mlp, cnn, vgg19, or module:function"),
        ("model: {arguments: [1]}", 10, "model.arguments: found `[1]`; wanted keyword arguments as `{name: value}`"),
        ("data: {source: minst}", 10, "-> write `mnist`"),
        ("data: {source: data/mnist.npz}", 10, "-> write `npz:data/mnist.npz`"),
        ('data: {source: "npz:"}', 10, "the path is missing\n  -> write npz:PATH, such as `npz:data/mnist.npz`"),
        # sections and lists
        (
            "train: 5",
            10,
            "train: found `5`; wanted indented lines of `key: value`, with the keys passes, steps, batch_size",
        ),
        ("train: [1, {a: 1}]", 10, "train: found `[1, ...]`; wanted indented lines"),
        ("gossip: {clamp: 0.5}", 10, "found `0.5`; wanted two numbers [low, high] with 0 <= low <= high <= 1"),
        ("gossip: {clamp: [0.5]}", 10, "found `[0.5]`; wanted two numbers"),
        ("gossip: {clamp: [0.1, 0.5, 0.9]}", 10, "found `[0.1, 0.5, 0.9]`; wanted two numbers"),
        ("gossip: {clamp: [0.1, high]}", 10, "found `[0.1, high]`; wanted two numbers"),
        ("gossip: {clamp: [0.1, yes]}", 10, "found `[0.1, yes]`; wanted two numbers"),
        ("gossip: {clamp: [0.9, 0.1]}", 10, "the lower limit is above the upper one\n  -> write `[0.1, 0.9]`"),
        ("gossip: {clamp: [0.1, 1.1]}", 10, "a weight lies between 0 and 1\n  -> write two numbers between 0 and 1"),
        ("gossip: {clip: 0}", 10, "gossip.clip: found `0`; wanted a number above 0"),
        ("gossip: {clip: off}", 10, "gossip.clip: found `off`, which YAML reads as false; wanted a number"),
        ("gossip: {contribution: measure}", 10, "-> write `contribution: measured`"),
        # several keys
        ("train:\n  passes: 2\n  steps: 9", 12, "found `9`, and `passes: 2` beside it; only one can decide"),
        (
            "train:\n  optimizer:\n    arguments:\n      learning_rate: 1",
            13,
            "does not belong in arguments\n  -> write it one",
        ),
        ("model: {arguments: {depth: 3}}", 10, "model.arguments: are given, but the built-in model `mlp` takes none"),
        (
            'model: {name: "my:net", width: 2}',
            10,
            "found `2`, but only built-in models have a width, and `my:net` is none",
        ),
        (
            "gossip:\n  merge: mean\n  contribution: measured",
            12,
            "found `measured`, but `merge: mean` goes by no losses\n  -> write `merge: contribution`, or",
        ),
        ("gossip:\n  topology: ring\n  peers: 2", 12, "found `2`, but `topology: ring` has its own neighbours"),
        ("gossip: {peers: 3}", 10, "found `3`, but the number of other nodes is 2\n  -> write `peers: 2` or less"),
        ("gossip:\n  graph: {node1: [node2]}", 11, "gossip.graph: is given, but `topology: random` does not use it"),
        (
            "gossip:\n  topology: static",
            10,
            "is missing, and `topology: static` needs it\n  -> add `graph: {node1: [node3], ",
        ),
    ],
)
def test_setting_wrong_value_is_reported_with_line_and_remedy(
    tmp_path: Path, added: str, line: int, expected: str
) -> None:
    text = report(tmp_path, f"{GOOD}{added}\n")
    assert expected in text
    assert text.startswith(f"peers.yaml:{line}: ")
    assert text.count("\n  -> ") == 1, "one mistake, one report"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "  name: digits",
            "  runs: runs",
            "peers.yaml:1: cluster.name: is missing\n  -> add `name: digits`, a name of at",
        ),
        ("  name: digits", "  nam: digits", "peers.yaml:2: cluster.nam: is not a known key\n  -> did you mean `name`?"),
        ("  name: digits", "  name: My Digits!", "-> write `my-digits`"),
        (
            "  name: digits",
            "  name: 123",
            'peers.yaml:2: cluster.name: found `123`; wanted text\n  -> quote it: `name: "123"`',
        ),
        ("  name: digits", '  name: ""', 'found `""`: it is not a name of at most 63 lower-case letters'),
        ("  name: digits", "  name: digits\n  runs: ''", 'peers.yaml:3: cluster.runs: found `""`: the text is empty'),
        ("name: node1", "name: NO", 'which YAML reads as false; wanted text\n  -> quote it: `name: "no"`'),
        ("name: node1", "name: 0123", 'found `0123`, which YAML reads as 83\n  -> quote it if it is text: `"0123"`'),
        (
            "name: node1",
            "name: node2",
            "peers.yaml:6: nodes[1].name: found `node2`, which is the name of nodes[0] already",
        ),
        ("name: node1", "name: node2", "-> write `node1`, or remove one of the two"),
        ("name: node1", "nane: node1", "peers.yaml:4: nodes[0].nane: is not a known key\n  -> did you mean `name`?"),
        ("    address: 127.0.0.1:7101\n", "", "peers.yaml:4: nodes[0].address: is missing\n  -> add `address: 192.168"),
        ("127.0.0.1:7101", "127.0.0.1:0", "peers.yaml:5: nodes[0].address: found `127.0.0.1:0`: there is no port 0"),
        ("127.0.0.1:7101", "127.0.0.1:99999", "there is no port 99999\n  -> write a port from 1 to 65535"),
        ("127.0.0.1:7101", "127.0.0.1", "found `127.0.0.1`: the port is missing\n  -> write `127.0.0.1:7101`"),
        ("127.0.0.1:7101", "7101", 'found `7101`; wanted text\n  -> quote it: `address: "7101"`'),
        ("127.0.0.1:7101", '"::1:7101"', 'an IPv6 address needs brackets\n  -> write `"[::1]:7101"`'),
        ("127.0.0.1:7101", "[::1]:7101", "peers.yaml:5: not YAML: expected the node content"),
        ("127.0.0.1:7101", "0.0.0.0:7101", "0.0.0.0 means every interface of a machine; nobody can dial it"),
        ("127.0.0.1:7101", "0.0.0.0:7101", "and `bind: 0.0.0.0:7101` to listen on every interface"),
        (
            "127.0.0.1:7101",
            "127.0.0.1:7102",
            "peers.yaml:7: nodes[1].address: found 127.0.0.1:7102, which is the address",
        ),
        ("127.0.0.1:7101", "127.0.0.1:7102", "-> give each node a port of its own, such as `127.0.0.1:7104`"),
        ("127.0.0.1:7101", "LOCALHOST:7102", "which is the address of nodes[0] already"),
        (
            "127.0.0.1:7101",
            "127.0.0.1:7101\n    bind: 0.0.0.0:x",
            "peers.yaml:6: nodes[0].bind: found `0.0.0.0:x`: the port",
        ),
        ("127.0.0.1:7101", "127.0.0.1:7101\n    port: 3", "-> did you mean `nodes.address`?"),
    ],
)
def test_cluster_and_nodes_wrong_value_is_reported(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = report(tmp_path, GOOD.replace(old, new, 1))
    assert expected in text
    assert text.count("\n  -> ") == 1, "one mistake, one report"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("", "peers.yaml: nodes: is missing\n  -> add `nodes: [{name: node1, address: 192.168.1.10:7101}]`, a list of"),
        ("nodes:", "peers.yaml:3: nodes: found nothing; wanted a list of nodes, each with a name and an address"),
        ("nodes: []", "peers.yaml:3: nodes: found `[]`: the list is empty\n  -> add a node"),
        ("nodes: 4", "peers.yaml:3: nodes: found `4`; wanted a list of nodes"),
        ("nodes: {node1: a}", "peers.yaml:3: nodes: found keys and values; wanted a list of nodes"),
        ("nodes:\n- 127.0.0.1:7101", "peers.yaml:4: nodes[0]: found `127.0.0.1:7101`; wanted a list of nodes"),
    ],
)
def test_nodes_of_wrong_shape_is_reported_once(tmp_path: Path, nodes: str, expected: str) -> None:
    text = report(tmp_path, f"cluster:\n  name: digits\n{nodes}\n")
    assert text.startswith(expected)
    assert text.count("\n  -> ") == 1


def test_cluster_missing_says_what_to_add(tmp_path: Path) -> None:
    text = report(tmp_path, GOOD.replace("cluster:\n  name: digits\n", ""))
    assert text.startswith("peers.yaml: cluster: is missing\n  -> add `cluster: {name: digits}`")


def test_bind_same_port_of_one_machine_is_refused_and_of_two_is_not(tmp_path: Path) -> None:
    bound = GOOD.replace(":7101\n", ":7101\n    bind: 0.0.0.0:7100\n").replace(
        ":7102\n", ":7102\n    bind: 0.0.0.0:7100\n"
    )
    text = report(tmp_path, bound)
    assert "peers.yaml:9: nodes[1].bind: found 0.0.0.0:7100, on which nodes[0] of the same machine listens" in text
    assert report(tmp_path, bound.replace("127.0.0.1:7102", "10.0.0.2:7102")) == ""


STATIC = GOOD + "gossip:\n  topology: static\n  graph:\n"


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (
            "    node1: [node1]\n    node2: [node1]\n    node3: []\n",
            ["peers.yaml:13: gossip.graph.node1[0]: found `node1`: a node cannot pull from itself\n  -> remove it"],
        ),
        (
            "    node1: [nod2]\n    node2: [node1]\n    node3: []\n",
            ["gossip.graph.node1[0]: found `nod2`, which is no node of the list\n  -> did you mean `node2`?"],
        ),
        (
            "    node1: [x]\n    node2: [node1]\n    node3: []\n",
            ["found `x`, which is no node of the list\n  -> use one of node1, node2, node3"],
        ),
        (
            "    node1: [node2, node2]\n    node2: [node1]\n    node3: []\n",
            ["gossip.graph.node1[1]: found `node2` a second time\n  -> name each neighbour once"],
        ),
        (
            "    node1: [node2]\n    node2: [node1]\n",
            ["peers.yaml:12: gossip.graph: has no entry for the node node3\n  -> add `node3: [...]`"],
        ),
        (
            "    node1: [node2]\n    node2: [node1]\n    node3: []\n    node4: []\n",
            ["peers.yaml:16: gossip.graph.node4: is no node of the list\n  -> did you mean `node3`?"],
        ),
        (
            "    node1: node2\n    node2: [node1, 3]\n    node3: []\n",
            [
                "peers.yaml:13: gossip.graph.node1: found `node2`; wanted",
                "gossip.graph.node2[1]: found `3`; wanted text",
            ],
        ),
        ("    [node1]\n", ["peers.yaml:12: gossip.graph: found `[node1]`; wanted for each node the list"]),
    ],
)
def test_graph_wrong_entry_is_reported(tmp_path: Path, graph: str, expected: list[str]) -> None:
    text = report(tmp_path, STATIC + graph)
    for line in expected:
        assert line in text
    assert text.count("\n  -> ") == len(expected)


def test_graph_for_every_node_is_accepted(tmp_path: Path) -> None:
    configuration = read(tmp_path, STATIC + "    node1: [node2, node3]\n    node2: [node1]\n    node3: []\n")
    assert configuration.gossip.graph == {"node1": ("node2", "node3"), "node2": ("node1",), "node3": ()}


def test_graph_agrees_with_the_topology_itself(tmp_path: Path) -> None:
    from p2pdl.topology import graph_mistakes

    nodes = ["node1", "node2", "node3"]
    for graph in (
        {"node1": ["node2"], "node2": ["node3"], "node3": ["node1"]},
        {"node1": [], "node2": [], "node3": []},
        {"node1": ["node1"], "node2": [], "node3": []},
        {"node1": ["node2", "node2"], "node2": [], "node3": []},
        {"node1": [], "node2": []},
        {"node1": [], "node2": [], "node3": [], "other": []},
        {"node1": ["other"], "node2": [], "node3": []},
    ):
        lines = "".join(f"    {node}: [{', '.join(sources)}]\n" for node, sources in graph.items())
        assert (report(tmp_path, STATIC + lines) == "") == (graph_mistakes(nodes, graph) == [])


def test_mistakes_in_every_section_are_all_reported_in_file_order(tmp_path: Path) -> None:
    text = """\
cluster:
  name: Digits Demo
nodes:
  - name: node1
    address: 127.0.0.1:99999
  - name: node1
    adress: 127.0.0.1:7102
model:
  name: mpl
  width: 0
data:
  partition: 7
train:
  seed: 0123
  passes: 3
  steps: 100
  seed: 4
strategy: single!
gossip:
  topology: rign
  clamp: [0.9, 0.1]
  graph: {node1: [node1]}
compress:
  mask: off
metrics:
  interval: 0
secrets: {}
"""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, "gossip.window=99", "nonsense")
    problems = caught.value.problems
    assert caught.value.exit_code == EXIT_USAGE
    assert [(problem.line, problem.key) for problem in problems] == [
        (2, "cluster.name"),
        (5, "nodes[0].address"),
        (6, "nodes[1].name"),
        (7, "nodes[1].adress"),
        (9, "model.name"),
        (10, "model.width"),
        (12, "data.partition"),
        (14, "train.seed"),
        (16, "train.steps"),
        (17, "train.seed"),
        (18, "strategy"),
        (20, "gossip.topology"),
        (21, "gossip.clamp"),
        (22, "gossip.graph.node1[0]"),
        (24, "compress.mask"),
        (26, "metrics.interval"),
        (27, "secrets"),
        (None, ""),
        (None, "gossip.window"),
    ]
    assert all(problem.remedy for problem in problems)


def test_duplicate_key_does_not_hide_or_repeat_its_value(tmp_path: Path) -> None:
    text = report(tmp_path, GOOD + "train:\n  seed: x\n  seed: y\n")
    assert text == "peers.yaml:12: train.seed: is written twice, first in line 11\n  -> keep one of the two"


def test_value_with_line_breaks_or_without_end_is_shown_on_one_short_line(tmp_path: Path) -> None:
    long = "x" * 900
    text = report(tmp_path, GOOD + f'model: {{name: "a\\nb{long}"}}\ndata: {{source: "tcp\\n://{long}"}}\n{long}: 1\n')
    lines = text.splitlines()
    assert len(lines) == 6 and all(len(line) < 500 for line in lines)
    assert 'found `"a\\nbxxx' in text
