"""`p2pdl check`: what a configuration means, or everything that is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import check, program
from p2pdl.cli.check import link_figures
from p2pdl.config import Configuration
from p2pdl.node import inspection
from p2pdl.node.inspection import Inspection
from p2pdl.spec import WeightSpec
from tests.pretended_clusters import free_ports, write_configuration
from tests.processes import server
from tests.stores import dense_spec, new_store, writing

SPEC = dense_spec(2_500_000)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["check", *arguments])


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 10 MB, without TensorFlow."""

    def inspect(configuration: Configuration) -> Inspection:
        samples, steps = dict.fromkeys(configuration.names, 250), dict.fromkeys(configuration.names, 12)
        return Inspection(2_500_000, 10_000_000, 1000, samples, steps, SPEC.digest, list(SPEC.rows()))

    monkeypatch.setattr(check, "inspect", inspect)


@pytest.mark.parametrize(
    ("nbytes", "pulls", "rate", "seconds", "per_minute"),
    [(10_000_000, 1, 80.0, 1.0, 60.0), (10_000_000, 3, 80.0, 1.0, 20.0), (80_200_000, 1, 1000.0, 0.6416, 93.516)],
)
def test_link_carries_eight_bits_a_byte(
    nbytes: int, pulls: int, rate: float, seconds: float, per_minute: float
) -> None:
    figures = link_figures(nbytes, pulls, 30.0, rate)
    assert figures["seconds_per_pull"] == pytest.approx(seconds)
    assert figures["exchanges_per_minute"] == pytest.approx(per_minute, rel=1e-4)


@pytest.mark.usefixtures("inspected")
def test_findings_are_shown_as_tables(tmp_path: Path) -> None:
    result = run("--config", str(write_configuration(tmp_path, nodes=2)), "--link", "80", "--link", "0.5")
    assert result.exit_code == 0
    assert "2,500,000 parameters, 10.00 MB as float32" in result.stdout
    assert "an exchange: 1 pull of 10 MB in float32; 0.8 s at 100 Mbit/s\n" in result.stdout
    assert "the first pull" not in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["80", "1", "60"] in rows
    assert ["0.5", "160", "0.375", "longer", "than", "gossip.timeout"] in rows
    assert [row[2:] for row in rows if row[:1] == ["node2"]] == [["this", "machine", "250", "12"]]


@pytest.mark.usefixtures("inspected")
def test_findings_as_json_are_one_object(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=4, more="gossip:\n  peers: 2\n")
    result = run("--config", str(file), "--json")
    assert result.stderr == ""
    findings = json.loads(result.stdout)
    assert findings["parameters"] == 2_500_000
    assert findings["bytes_per_pull"] == 10_000_000
    assert findings["pulls_per_exchange"] == 2
    assert findings["nodes"][3]["name"] == "node4"
    assert findings["nodes"][3]["local"] is True
    assert [link["mbit_per_second"] for link in findings["links"]] == [10, 50, 100, 300, 1000]
    assert findings["links"][2]["seconds_per_pull"] == pytest.approx(0.8)
    assert findings["links"][2]["exchanges_per_minute"] == pytest.approx(37.5)


@pytest.mark.usefixtures("inspected")
@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        # One byte for each of 2.5 million elements, and 4 for each 256 of them.
        (["compress.codec=int8"], ["an exchange: 1 pull of 2.54 MB in int8; 0.203 s at 100 Mbit/s"]),
        (
            ["compress.codec=int8", "gossip.fraction=1/4", "gossip.peers=2"],
            [
                "an exchange: 2 pulls of 0.635 MB in int8, 1/4 of the model; 0.102 s at 100 Mbit/s",
                "the first pull takes everything: at most 2.54 MB",
            ],
        ),
        # A fiftieth of the elements, each with a byte for its value and another one for its place.
        (
            ["compress.codec=top-k"],
            [
                "an exchange: 1 pull of about 0.1 MB in top-k:0.02:int8; about 0.008 s at 100 Mbit/s",
                "the first pull takes everything: at most 2.54 MB",
            ],
        ),
        (
            ["compress.codec=auto"],
            [
                "an exchange: 1 pull of 2.54 MB in int8; 0.203 s at 100 Mbit/s",
                "auto begins with this codec, and then takes what each link carries between two exchanges",
            ],
        ),
    ],
)
def test_exchange_costs_what_the_codec_and_the_fraction_make_of_it(
    tmp_path: Path, overrides: list[str], lines: list[str]
) -> None:
    flags = [word for override in overrides for word in ("--set", override)]
    result = run("--config", str(write_configuration(tmp_path, nodes=4)), *flags)
    assert result.exit_code == 0, result.stderr
    text = result.stdout.splitlines()
    place = text.index(lines[0])
    assert text[place : place + len(lines)] == lines
    assert ("the first pull" in result.stdout) == any("the first pull" in line for line in lines)


@pytest.mark.usefixtures("inspected")
def test_json_has_the_cost_in_bytes_and_links_reckon_with_it(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=2)
    findings = json.loads(run("--config", str(file), "--set", "compress.codec=int8", "--json").stdout)
    nbytes = 2_500_000 + 4 * -(-2_500_000 // 256)
    assert findings["bytes_per_pull"] == pytest.approx(nbytes, abs=40)
    assert findings["bytes_of_first_pull"] == findings["bytes_per_pull"]
    assert findings["model_bytes"] == 10_000_000
    assert (findings["codec_on_the_wire"], findings["fraction"], findings["bytes_are_estimates"]) == (
        *("int8", "1/1"),
        False,
    )
    assert findings["seconds_per_exchange_at_100_mbit"] == pytest.approx(8e-8 * nbytes, rel=1e-4)
    assert findings["links"][2]["seconds_per_pull"] == pytest.approx(8e-8 * nbytes, rel=1e-4)


@pytest.mark.usefixtures("inspected")
def test_file_of_this_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_configuration(tmp_path, nodes=1)
    monkeypatch.chdir(tmp_path)
    assert run().exit_code == 0


@pytest.mark.parametrize("command", ["check", "up", "node", "status"])
def test_no_file_is_answered_with_the_way_to_one(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(program, [command])
    assert result.exit_code == 2
    assert "there is no peers.yaml in this folder" in result.stderr
    assert "--config FILE" in result.stderr


@pytest.mark.parametrize("command", ["check", "up", "node", "status"])
def test_file_that_is_not_there_is_answered_with_init(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(program, [command, "--config", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml: there is no such file" in result.stderr
    assert "p2pdl init" in result.stderr


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=1, more="gossip:\n  topology: rnig\ntrain:\n  pases: 3\n")
    result = run("--config", str(file), "--set", "train.batch_size=0")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "3 mistakes in the configuration" in result.stderr
    assert f"{file}:7: gossip.topology" in result.stderr
    assert f"{file}:9: train.pases" in result.stderr
    assert "--set: train.batch_size" in result.stderr


@pytest.mark.parametrize("rate", ["0", "-1", "fast"])
def test_link_without_a_rate_is_refused(rate: str, tmp_path: Path) -> None:
    result = run("--config", str(write_configuration(tmp_path, nodes=1)), "--link", rate)
    assert result.exit_code == 2
    assert "--link" in result.stderr


@pytest.mark.usefixtures("inspected")
def test_other_nodes_are_looked_at_on_request(tmp_path: Path) -> None:
    ports = free_ports(4)
    file = write_configuration(tmp_path, ports=ports)
    with new_store() as store, writing(store, SPEC), server(store, address=f"127.0.0.1:{ports[1]}", node="node2"):
        with new_store() as other, server(other, address=f"127.0.0.1:{ports[2]}", node="node9"):
            result = run("--config", str(file), "--connect")
            as_json = run("--config", str(file), "--connect", "--name", "node2", "--json")
    assert result.exit_code == as_json.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"{file} is right: cluster lab, strategy gossip" in lines
    assert f"this machine is node1: 127.0.0.1 is an address of this machine; port {ports[0]} is free" in lines
    rows = [line.split() for line in lines]
    places = [f"127.0.0.1:{port}" for port in ports]
    [passed] = [row for row in rows if row[:3] == ["node2", places[1], "passed"]]
    assert float(passed[3]) > 0 and passed[4] == "starting"
    assert ["node3", places[2], "other", "node", "-", "-", "-"] in rows
    assert ["node4", places[3], "not", "running", "-", "-", "-"] in rows
    wrong = lines.index(f"node3, node: at {places[2]} the node node9 answers, not node3")
    assert lines[wrong + 1].startswith("  -> correct the addresses under `nodes`")
    absent = lines.index(f"node4, route: {places[3]} refuses connections: nothing listens there")
    assert lines[absent + 1].startswith("  -> start node4 on that machine")

    found = json.loads(as_json.stdout)["connections"]
    assert found["passed"] is False
    assert found["own"]["name"] == "node2" and found["own"]["passed"] is True
    assert found["own"]["steps"][1]["detail"] == "node2 runs already and listens there"
    assert [(peer["name"], peer["result"]) for peer in found["peers"]] == [
        ("node1", "not running"),
        ("node3", "other node"),
        ("node4", "not running"),
    ]
    assert found["peers"][0]["steps"][-1]["ok"] is False
    assert "start node1" in found["peers"][0]["steps"][-1]["remedy"]


@pytest.mark.usefixtures("inspected")
def test_nodes_that_all_pass_are_exit_code_0(tmp_path: Path) -> None:
    ports = free_ports(2)
    file = write_configuration(tmp_path, ports=ports)
    with new_store() as store, writing(store, SPEC), server(store, address=f"127.0.0.1:{ports[1]}", node="node2"):
        result = run("--config", str(file), "--connect")
    assert result.exit_code == 0, result.stdout
    assert "node2, settings: cannot be compared" in result.stdout
    assert "->" not in result.stdout


@pytest.mark.usefixtures("inspected")
def test_file_of_other_machines_is_looked_at_from_outside(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    file.write_text("cluster: {name: lab}\nnodes: [{name: node1, address: 'no-such-machine.invalid:7101'}]\n")
    undecided = run("--config", str(file), "--connect")
    assert undecided.exit_code == 2 and "`p2pdl keygen" in undecided.stderr
    result = run("--config", str(file), "--connect", "--set", "security=none")
    assert result.exit_code == 1
    assert "no node of this file has an address of this machine" in result.stdout
    assert "node1, name: the name no-such-machine.invalid leads nowhere" in result.stdout


@pytest.mark.usefixtures("inspected")
def test_wrong_ways_to_say_who_looks_are_refused(tmp_path: Path) -> None:
    file = str(write_configuration(tmp_path, nodes=2))
    alone = run("--config", file, "--name", "node1")
    assert alone.exit_code == 2 and "give --connect too" in alone.stderr
    unknown = run("--config", file, "--connect", "--name", "node7")
    assert unknown.exit_code == 2 and "lists no node 'node7'" in unknown.stderr


def test_model_is_built_and_the_data_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspections: list[Inspection] = []

    def inspect(configuration: Configuration) -> Inspection:
        inspections.append(inspection.inspect(configuration))
        return inspections[0]

    monkeypatch.setattr(check, "inspect", inspect)
    file = write_configuration(tmp_path, nodes=4, more="train:\n  passes: 2\n")
    result = run("--config", str(file), "--json")
    assert result.exit_code == 0, result.stderr
    findings = json.loads(result.stdout)
    # Three dense layers of 512 on 64 inputs, and one of 10.
    assert findings["parameters"] == (64 + 1 + 512 + 1 + 512 + 1) * 512 + 513 * 10
    assert findings["bytes_per_pull"] >= 4 * findings["parameters"]
    assert sum(node["samples"] for node in findings["nodes"]) == findings["dataset_size"] > 1400
    assert [node["steps"] for node in findings["nodes"]] == [
        -(-2 * node["samples"] // 64) for node in findings["nodes"]
    ]
    spec = WeightSpec.parse("\n".join(inspections[0].spec_rows))
    assert spec.digest == inspections[0].spec == findings["model_digest"]
    assert (spec.parameters, spec.nbytes) == (findings["parameters"], findings["model_bytes"])


def test_data_that_are_not_there_are_one_message(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=2)
    result = run("--config", str(file), "--set", "data.source=npz:nothing.npz")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("p2pdl: npz:nothing.npz: there is no file")
    assert "Traceback" not in result.stderr
