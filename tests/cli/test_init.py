"""`p2pdl init`: a file that works as it is, and never one overwritten by accident."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import program
from p2pdl.config import load
from p2pdl.config.presets import PRESETS, template


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def init(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["init", *arguments])


def test_file_is_written_and_the_next_commands_are_named() -> None:
    result = init()
    assert result.exit_code == 0
    assert load("peers.yaml").names == ("node1", "node2", "node3", "node4")
    for command in ("check", "up", "node"):
        assert f"p2pdl {command} --config peers.yaml" in result.stdout


def test_path_with_a_space_is_quoted_in_the_next_commands(tmp_path: Path) -> None:
    result = init("my peers.yaml")
    assert result.exit_code == 0
    assert "p2pdl check --config 'my peers.yaml'" in result.stdout


def test_file_that_is_there_is_overwritten_only_with_force(tmp_path: Path) -> None:
    Path("peers.yaml").write_text("mine")
    result = init()
    assert result.exit_code == 2
    assert "peers.yaml is there already" in result.stderr
    assert "--force" in result.stderr
    assert Path("peers.yaml").read_text() == "mine"
    assert init("--force").exit_code == 0
    assert Path("peers.yaml").read_text() != "mine"


def test_folder_gets_the_file_inside(tmp_path: Path) -> None:
    Path("cluster").mkdir()
    assert init("cluster").exit_code == 0
    assert load("cluster/peers.yaml").cluster.name


def test_folder_that_is_missing_is_named() -> None:
    result = init("nowhere/peers.yaml")
    assert result.exit_code == 2
    assert "nowhere/peers.yaml cannot be written: No such file or directory" in result.stderr


def test_every_preset_is_written_as_it_is_and_named_in_the_help() -> None:
    told = init("--help").output
    for preset in PRESETS:
        result = init("--preset", preset, f"{preset}.yaml")
        assert result.exit_code == 0
        assert Path(f"{preset}.yaml").read_text(encoding="utf-8") == template(preset)
        who = "four nodes" if preset == "gossip" else "a server and four workers"
        assert f"wrote {preset}.yaml: {who} on this machine" in result.stdout
        assert re.search(rf"\b{preset}\b", told)


def test_unknown_preset_is_answered_with_the_known_ones() -> None:
    result = init("--preset", "gosip")
    assert result.exit_code == 2
    assert "did you mean gossip?" in result.stderr
    assert not Path("peers.yaml").exists()
