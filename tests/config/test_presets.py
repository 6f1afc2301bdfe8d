"""The presets of systems with a parameter server: each loads, and is what its row of docs/systems/README.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from p2pdl.config import Configuration, load
from p2pdl.config.presets import PRESETS, template
from p2pdl.node.server_settings import parameter_server_settings
from p2pdl.protocol.parameter_server import ParameterServer
from p2pdl.sparsifier import SPARSIFIERS

SYSTEMS = [preset for preset in PRESETS if preset != "gossip"]
PAGES = Path(__file__).resolve().parents[2] / "docs" / "systems"


def loaded(folder: Path, preset: str) -> Configuration:
    file = folder / "peers.yaml"
    file.write_text(template(preset), encoding="utf-8")
    return load(file)


def table() -> dict[str, dict[str, str]]:
    """The rows of the page's table by their preset, each cell by its column."""
    lines = re.findall(r"^\| (.+) \|$", (PAGES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    header, *rows = [line.split(" | ") for line in lines]
    columns = [dict(zip(header, row, strict=True)) for row in rows]
    return {row["preset"].strip("`"): row for row in columns}


def said(cell: str) -> tuple[str, dict[str, float]]:
    """A cell as `name`, then pairs of a setting and its value."""
    name, *pairs = cell.replace("`", "").replace(",", "").split()
    return name, {key: float(value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}


def test_table_has_a_row_for_every_preset_and_every_row_a_page() -> None:
    rows = table()
    assert list(rows) == SYSTEMS
    for preset, row in rows.items():
        assert f"({preset}.md)" in row["system"]
        assert (PAGES / f"{preset}.md").exists()


@pytest.mark.parametrize("preset", SYSTEMS)
def test_preset_is_what_the_table_says(tmp_path: Path, preset: str) -> None:
    row, configuration = table()[preset], loaded(tmp_path, preset)
    server, compress, optimizer = configuration.server, configuration.compress, configuration.train.optimizer
    policy, of_policy = said(row["policy"])
    rule, _ = said(row["update rule"])
    place, of_optimizer = said(row["optimizer at the"])
    sparsifier, of_sparsifier = said(row["sparsifier"])
    assert (server.policy, server.update_rule, compress.sparsifier) == (policy, rule, sparsifier)
    assert of_policy == ({"staleness": server.staleness} if policy == "ssp" else {})
    assert (server.optimizer_place, optimizer.name) == (place, "sgd")
    assert of_optimizer == optimizer.arguments
    takes_a_share = "fraction" in SPARSIFIERS[sparsifier][1].__dataclass_fields__
    assert of_sparsifier == ({"kept": compress.kept} if takes_a_share else {})
    # int8, the default for selected entries, is none of these systems' own.
    assert sparsifier == "none" or compress.values == "float32"


@pytest.mark.parametrize("preset", SYSTEMS)
def test_preset_is_a_server_and_four_workers_on_loopback(tmp_path: Path, preset: str) -> None:
    configuration = loaded(tmp_path, preset)
    assert (configuration.cluster.name, configuration.strategy) == (preset, "parameter-server")
    assert [(node.name, node.role, str(node.address)) for node in configuration.nodes] == [
        ("server", "server", "127.0.0.1:7100"),
        *((f"worker{number}", "worker", f"127.0.0.1:{7100 + number}") for number in range(1, 5)),
    ]
    assert configuration.data.source == "digits", "no download"


@pytest.mark.parametrize("preset", SYSTEMS)
def test_preset_is_one_that_a_server_can_be_built_from(tmp_path: Path, preset: str) -> None:
    configuration = loaded(tmp_path, preset)
    core = ParameterServer(parameter_server_settings(configuration), "life")
    assert core.settings.expected == 4
    assert core.policy.name == configuration.server.policy


def test_presets_differ_in_nothing_but_the_system() -> None:
    same = {"nodes", "strategy"}
    contents = [yaml.safe_load(template(preset)) for preset in SYSTEMS]
    for content in contents:
        assert content.keys() == {"cluster", "nodes", "train", "strategy", "server", "compress"}
        assert {key: content[key] for key in same} == {key: contents[0][key] for key in same}
        assert content["train"]["passes"] == contents[0]["train"]["passes"]


@pytest.mark.parametrize("preset", SYSTEMS)
def test_preset_names_its_page_and_has_lines_that_fit(preset: str) -> None:
    text = template(preset)
    assert f"docs/systems/{preset}.md" in text
    assert max(map(len, text.splitlines())) <= 120
