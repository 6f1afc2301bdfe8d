"""`p2pdl check`: what a configuration means, or everything that is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import check, program
from p2pdl.cli.check import link_figures
from p2pdl.config import Configuration
from p2pdl.node.inspection import Inspection
from tests.pretended_clusters import write_configuration


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["check", *arguments])


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 10 MB, without TensorFlow."""

    def inspect(configuration: Configuration) -> Inspection:
        names = configuration.names
        return Inspection(2_500_000, 10_000_000, 1000, dict.fromkeys(names, 250), dict.fromkeys(names, 12))

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


def test_model_is_built_and_the_data_are_divided(tmp_path: Path) -> None:
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


def test_data_that_are_not_there_are_one_message(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=2)
    result = run("--config", str(file), "--set", "data.source=npz:nothing.npz")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("p2pdl: npz:nothing.npz: there is no file")
    assert "Traceback" not in result.stderr
