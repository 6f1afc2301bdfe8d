"""What a node writes down of what it runs on: whole, without names, and no reason to end a run."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from p2pdl._version import VERSION
from p2pdl.errors import EXIT_USAGE, RunDirectoryUnusable
from p2pdl.node import environment as room
from p2pdl.node.environment import ENVIRONMENT_FILE, environment, note_gpus, write_environment
from p2pdl.node.local_nodes import cores
from tests.processes import ROOT

NAMES = {"versions", "machine", "cores", "memory_bytes", "load"}


def test_environment_is_that_of_this_process() -> None:
    found = environment()
    assert found.keys() == NAMES
    assert found["versions"]["p2pdl"] == VERSION
    assert found["versions"]["python"] == sys.version.split()[0]
    assert found["machine"]["architecture"] == platform.machine()
    assert found["machine"]["system"] == f"{platform.system()} {platform.release()}"
    assert found["cores"] == cores() >= 1
    assert found["memory_bytes"] > 1 << 28
    assert found["load"] >= 0.0
    assert json.loads(json.dumps(found)) == found
    assert platform.node() not in json.dumps(found).split('"')


def test_versions_are_those_that_the_libraries_state_themselves() -> None:
    code = (
        "import json, tensorflow, keras, numpy, zmq, msgpack; print(json.dumps({'tensorflow': tensorflow.__version__, "
    )
    code += "'keras': keras.__version__, 'numpy': numpy.__version__, 'pyzmq': zmq.__version__, "
    code += "'msgpack': '.'.join(map(str, msgpack.version))}))"
    stated = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = environment()["versions"]
    assert {name: found[name] for name in room.LIBRARIES} == json.loads(stated.stdout.splitlines()[-1])


def test_nothing_is_loaded_for_it() -> None:
    code = "import sys; from p2pdl.node.environment import environment; environment(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"tensorflow", "keras", "zmq", "msgpack"} & set(loaded.stdout.split())


def test_library_is_found_under_any_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorflow-macos": "2.19.1"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(room, "version", version)
    found = environment()["versions"]
    assert found["tensorflow"] == "2.19.1" and found["keras"] is None


@pytest.mark.parametrize(
    "text, processor",
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 2.90GHz\n\nmodel name\t: Another\n", "Some CPU @ 2.90GHz"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", "as Python says"),
        (None, "as Python says"),
    ],
)
def test_processor_is_named_where_the_system_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, processor: str
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(room, "PROCESSORS", path)
    monkeypatch.setattr(platform, "processor", lambda: "as Python says")
    assert environment()["machine"]["processor"] == processor
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert environment()["machine"]["processor"] == (processor if text and "model name" in text else None)


def test_graphics_processors_are_added_by_whoever_knows_them(tmp_path: Path) -> None:
    write_environment(tmp_path)
    before = json.loads((tmp_path / ENVIRONMENT_FILE).read_text())
    assert before.keys() == NAMES
    note_gpus(tmp_path, ["A card", "A card"])
    assert json.loads((tmp_path / ENVIRONMENT_FILE).read_text()) == {**before, "gpus": ["A card", "A card"]}


def test_node_that_cannot_write_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryUnusable) as caught:
        write_environment(tmp_path / "absent")
    assert caught.value.exit_code == EXIT_USAGE and caught.value.remedy


@pytest.mark.parametrize("damage", [None, "{half"])
def test_training_goes_on_without_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str | None) -> None:
    if damage is not None:
        (tmp_path / ENVIRONMENT_FILE).write_text(damage)
    with caplog.at_level(logging.WARNING):
        note_gpus(tmp_path, ["A card"])
    [record] = caplog.records
    assert "training goes on" in record.getMessage()
