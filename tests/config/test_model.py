from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from p2pdl.config import Address, Configuration
from p2pdl.config.model import Settings
from p2pdl.config.setting import note, section_of, setting_paths, wanted
from p2pdl.errors import EXIT_USAGE, NodeChoiceError
from tests.config.cases import GOOD, read


def test_configuration_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    configuration = read(tmp_path, GOOD)
    assert configuration.model_dump(exclude={"file", "nodes", "joined"}) == {
        "cluster": {"name": "digits", "runs": "runs"},
        "model": {"name": "mlp", "width": 1.0, "arguments": {}},
        "data": {"source": "digits", "partition": "iid", "alpha": 0.3, "augment": "none"},
        "train": {
            "passes": 3.0,
            "steps": None,
            "batch_size": 64,
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.05,
                "schedule": "constant",
                "warm_up": 0.0,
                "arguments": {"momentum": 0.9},
            },
            "loss": "auto",
            "seed": 0,
            "threads": 0,
            "profile": False,
        },
        "strategy": "gossip",
        "gossip": {
            "topology": "random",
            "peers": 1,
            "graph": None,
            "merge": "contribution",
            "clamp": (0.1, 0.9),
            "contribution": "claimed",
            "clip": 3.0,
            "exchange_every": 1,
            "overlap": True,
            "downloads": 1,
            "fraction": "1/1",
            "timeout": None,
            "request_timeout": None,
            "range_size": 2,
            "window": 2,
            "start_wait": 30.0,
            "linger": 300.0,
            "final_merge": True,
        },
        "compress": {
            "mask": "magnitude",
            "error_feedback": False,
            "codec": "float32",
            "values": "int8",
            "density": 0.02,
            "sparsifier": "none",
            "kept": 0.01,
            "threshold": 0.001,
            "deflate": False,
        },
        "server": {
            "uploads": 1,
            "copies": 8,
            "copies_memory": 1024,
            "memory": 192,
            "policy": "bsp",
            "staleness": 3,
            "update_rule": "consgd",
            "optimizer": "auto",
            "rate": None,
            "range": "all",
            "lease": 10.0,
            "check_period": 10.0,
            "search_window": 20.0,
            "search_period": 300.0,
            "pushes": 4,
        },
        "membership": {"preset": "auto"},
        "checkpoint": {"every": 60.0, "keep": 2, "restarts": 5},
        "security": {"mode": "auto", "keys": "keys"},
        "metrics": {"interval": 1.0, "evaluate_every": 0.0, "evaluation_samples": 10000},
    }


def test_optimizer_other_than_sgd_gets_no_momentum(tmp_path: Path) -> None:
    optimizer = read(tmp_path, GOOD + "train:\n  optimizer: {name: adam, learning_rate: 1e-3}\n").train.optimizer
    assert optimizer.arguments == {}


def test_sections_without_content_are_sections_of_defaults(tmp_path: Path) -> None:
    sections = "model data train gossip compress server membership checkpoint security metrics"
    empty = "".join(f"{name}:\n" for name in sections.split())
    assert read(tmp_path, GOOD + empty) == read(tmp_path, GOOD)
    assert read(tmp_path, GOOD + "train:\n  optimizer:\n") == read(tmp_path, GOOD)


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    configuration = read(tmp_path, GOOD + "train:\n  passes: 1e1\n  optimizer: {learning_rate: 1e-3}\n")
    assert (configuration.train.passes, configuration.train.optimizer.learning_rate) == (10.0, 0.001)


def test_settings_that_are_idle_but_harmless_are_accepted(tmp_path: Path) -> None:
    read(tmp_path, GOOD + "data: {partition: iid, alpha: 0.1}\n")
    read(tmp_path, GOOD + "gossip: {topology: ring, peers: 1, graph: null}\n")
    read(tmp_path, GOOD + "gossip: {merge: mean, clamp: [0.2, 0.8]}\n")
    read(tmp_path, GOOD + "compress: {mask: none, error_feedback: true}\n")
    read(tmp_path, GOOD + "train: {passes: 3, steps: null}\n")
    read(tmp_path, "cluster: {name: a}\nnodes: [{name: b, address: 'localhost:1'}]\ngossip: {peers: 1}\n")


def test_configuration_json_round_trip_keeps_everything(tmp_path: Path) -> None:
    text = GOOD.replace("127.0.0.1:7101", '"[::1]:7101"').replace(":7102\n", ":7102\n    bind: 0.0.0.0:1\n")
    text += 'model: {name: "zoo:net", arguments: {depth: 3, rates: [0.1, 2e-3], name: null, "on": true}}\n'
    text += "gossip: {topology: static, graph: {node1: [node2], node2: [], node3: [node1, node2]}, clamp: [0, 1]}\n"
    configuration = read(tmp_path, text)
    again = Configuration.from_json(configuration.to_json())
    assert again == configuration
    assert again.nodes[0].address == Address("::1", 7101)
    assert again.nodes[1].listen == Address("0.0.0.0", 1)
    assert again.gossip.graph == {"node1": ("node2",), "node2": (), "node3": ("node1", "node2")}
    assert again.file == tmp_path / "peers.yaml"


def test_configuration_json_round_trip_with_steps(tmp_path: Path) -> None:
    configuration = read(tmp_path, GOOD, "train.steps=5")
    assert Configuration.from_json(configuration.to_json()).train.steps == 5


def test_configuration_cannot_be_changed(tmp_path: Path) -> None:
    configuration = read(tmp_path, GOOD)
    with pytest.raises(pydantic.ValidationError):
        configuration.train.seed = 3


def test_paths_count_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = read(tmp_path, GOOD)
    assert configuration.folder == tmp_path
    assert configuration.runs_folder == tmp_path / "runs"
    assert configuration.resolve("data/x.npz") == tmp_path / "data" / "x.npz"
    assert configuration.resolve("/data/x.npz") == Path("/data/x.npz")
    monkeypatch.setenv("HOME", "/home/someone")
    assert configuration.resolve("~/x.npz") == Path("/home/someone/x.npz")


def test_file_given_relative_to_the_current_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "peers.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path / "inner")
    from p2pdl.config import load

    assert load("../peers.yaml").file == tmp_path / "peers.yaml"


def test_node_by_name(tmp_path: Path) -> None:
    configuration = read(tmp_path, GOOD)
    assert configuration.names == ("node1", "node2", "node3")
    node = configuration.node("node2")
    assert (node.name, str(node.address), node.listen) == ("node2", "127.0.0.1:7102", node.address)


@pytest.mark.parametrize(
    ("name", "remedy"), [("nod2", "did you mean --name node2?"), ("zebra", "use one of these names, or add the node")]
)
def test_node_outside_the_list_names_the_nearest(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(NodeChoiceError) as caught:
        read(tmp_path, GOOD).node(name)
    assert caught.value.exit_code == EXIT_USAGE
    assert f"lists no node '{name}'; its nodes are node1, node2, node3" in caught.value.message
    assert remedy in caught.value.remedy


def test_every_setting_says_meaning_trade_off_and_what_is_wanted() -> None:
    for location, field in setting_paths(Settings):
        if section_of(field) is None:
            assert field.description and note(field, "trade_off"), location
            assert wanted(field) not in ("", "a value"), location
        else:
            assert (section_of(field) or Settings).__doc__, location


def test_import_of_the_configuration_is_light() -> None:
    heavy = ("numpy", "tensorflow", "keras", "zmq")
    code = f"import sys, p2pdl.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("mode", ["auto", "curve", "none"])
def test_security_may_be_its_mode_alone(tmp_path: Path, mode: str) -> None:
    expected = read(tmp_path, GOOD + f"security: {{mode: {mode}}}\n").security
    assert read(tmp_path, GOOD + f"security: {mode}\n").security == expected
    assert read(tmp_path, GOOD, f"security={mode}").security == expected
    assert read(tmp_path, GOOD + "security: curve\n", f"security={mode}").security == expected
