from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pdl.config import load
from p2pdl.config.document import BAD_EXAMPLE, example_errors, page
from p2pdl.config.loader import read_text
from p2pdl.config.model import Settings
from p2pdl.config.presets import template
from p2pdl.config.setting import section_of, setting_paths
from p2pdl.config.source import Location
from p2pdl.errors import StartupError
from tests.config.cases import GOOD, read, report

ROOT = Path(__file__).resolve().parents[2]
OWN_VALUES = {"train.passes"}
"""Settings in which the demonstration differs from the default."""


def by_path(text: str) -> dict[str, object]:
    """The value of every setting of a YAML text by its dotted path; of `nodes`, those of the first entry."""
    document = read_text(text, Path("peers.yaml"))
    return {
        ".".join(map(str, location)): document.at(_first_entry(location)) for location, _ in setting_paths(Settings)
    }


def _first_entry(location: Location) -> Location:
    return (location[0], 0, *location[1:]) if location[0] == "nodes" and len(location) > 1 else location


def settings_after_comments(text: str) -> dict[str, str]:
    """The `Default: ...` of the comment above each key, by the key's line."""
    defaults, comment = {}, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith("#"):
            comment = line.strip().removeprefix("#").strip()
        elif line.strip():
            if match := re.search(r"Default: (.+)$", comment):
                defaults[str(number)] = match[1]
            comment = ""
    return defaults


def test_template_is_the_peers_yaml_of_the_project() -> None:
    assert (ROOT / "peers.yaml").read_bytes() == template().encode()


def test_template_every_key_of_every_section_is_there() -> None:
    document = read_text(template(), Path("peers.yaml"))
    missing = [location for location, _ in setting_paths(Settings) if _first_entry(location) not in document.lines]
    assert missing == []


def test_template_every_key_has_a_comment_above_it() -> None:
    lines = template().splitlines()
    document = read_text(template(), Path("peers.yaml"))
    for location, field in setting_paths(Settings):
        if section_of(field) is None and location[-1] != "address":
            line = document.lines[_first_entry(location)]
            assert lines[line - 2].strip().startswith("#"), location


def test_template_states_the_default_of_every_key_that_has_one() -> None:
    text = template()
    document = read_text(text, Path("peers.yaml"))
    stated = settings_after_comments(text)
    defaults = by_path(load_defaults())
    for location, field in setting_paths(Settings):
        path = ".".join(map(str, location))
        if section_of(field) is None and not field.is_required():
            line = str(document.lines[_first_entry(location)])
            assert line in stated, f"{path} states no default"
            assert read_text(stated[line], None).value == defaults[path], path


def load_defaults() -> str:
    """A YAML text (which JSON is) with the default of every setting."""
    from p2pdl.config.model import Configuration

    nodes = [{"name": "a", "address": "localhost:1"}]
    return Configuration.model_validate({"file": Path("/x"), "cluster": {"name": "a"}, "nodes": nodes}).to_json()


def test_template_differs_from_the_defaults_only_where_the_demonstration_needs_it(tmp_path: Path) -> None:
    (tmp_path / "peers.yaml").write_text(template())
    ours = load(tmp_path / "peers.yaml")
    plain = read(tmp_path, GOOD)
    for location, field in setting_paths(Settings):
        path = ".".join(map(str, location))
        if section_of(field) is None and location[0] not in ("cluster", "nodes") and path not in OWN_VALUES:
            here, there = ours, plain
            for part in location:
                here, there = getattr(here, str(part)), getattr(there, str(part))
            assert here == there, path


def test_template_is_four_nodes_on_loopback(tmp_path: Path) -> None:
    (tmp_path / "peers.yaml").write_text(template())
    configuration = load(tmp_path / "peers.yaml")
    assert configuration.cluster.name == "digits"
    assert [(node.name, str(node.address)) for node in configuration.nodes] == [
        (f"node{number}", f"127.0.0.1:{7100 + number}") for number in range(1, 5)
    ]
    assert configuration.train.steps is None


@pytest.mark.parametrize(
    "flag", ["gossip.topology=ring", "gossip.topology=exponential", "train.steps=10", "strategy=single"]
)
def test_template_common_changes_are_one_flag(tmp_path: Path, flag: str) -> None:
    assert report(tmp_path, template(), flag) == ""


def test_preset_unknown_names_the_known_ones() -> None:
    with pytest.raises(StartupError, match="'gosip'; there are: gossip, cui-ps, .*\n  -> did you mean gossip?"):
        template("gosip")
    with pytest.raises(StartupError, match="-> use one of these: gossip, .*, tsai"):
        template("something else")


def test_documentation_is_generated_from_the_settings() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m p2pdl.config.document > docs/configuration.md"


def test_documentation_has_a_heading_for_every_key() -> None:
    headings = {line.lstrip("#").strip() for line in page().splitlines() if line.startswith("##")}
    assert {".".join(map(str, location)) for location, _ in setting_paths(Settings)} <= headings


def test_documentation_example_is_what_the_loader_says(tmp_path: Path) -> None:
    assert example_errors() in page()
    assert report(tmp_path, BAD_EXAMPLE) == example_errors()
