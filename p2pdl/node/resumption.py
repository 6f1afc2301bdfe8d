"""Whether a start of a node goes on with the run that is there, or begins a new one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from p2pdl.config import Configuration
from p2pdl.errors import RunDirectoryUnusable, RunMismatch
from p2pdl.files import replace
from p2pdl.node.results import SUMMARY_FILE
from p2pdl.node.run_folder import create_run_folder, prepare_node_folder
from p2pdl.node.shared_settings import Difference, hindrances, shared_settings
from p2pdl.types import JsonObject, NodeId

CHECKPOINT_FOLDER = "checkpoints"
CONFIGURATION_FILE = "config.json"
SHARED_FILE = "shared.json"


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """The folder of a node's run.

    Attributes:
        path: Where it is.
        resumes: True if it holds a run that has not ended, with a checkpoint to go on from.
    """

    path: Path
    resumes: bool


def open_node_folder(configuration: Configuration, node: NodeId, fresh: bool = False) -> NodeFolder:
    """The folder of the run that has not ended, or else a new one; what an ended run left moves to `earlier/`.

    Args:
        configuration: The cluster.
        node: The node's name.
        fresh: True to begin anew in any case.

    Raises:
        RunDirectoryUnusable: It cannot be made, or not be written.
        RunMismatch: The run was made with settings with which it cannot go on.
    """
    path = create_run_folder(configuration) / node
    if fresh or not has_unfinished_run(path):
        return NodeFolder(prepare_node_folder(configuration, node), resumes=False)
    found = hindrances(shared_settings(configuration), _settings_before(path))
    if found:
        raise _mismatch(path, found)
    try:
        (path / SUMMARY_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, error) from None
    return NodeFolder(path, resumes=True)


def write_settings(path: Path, configuration: Configuration) -> tuple[Path, Path]:
    """Write down how the run is made.

    Returns:
        The file with the whole configuration, and the one with what a node that joins is told.

    Raises:
        RunDirectoryUnusable: They cannot be written.
    """
    written = path / CONFIGURATION_FILE, path / SHARED_FILE
    try:
        replace(written[0], configuration.to_json())
        replace(written[1], json.dumps(shared_settings(configuration)))
    except OSError as error:
        raise _unusable(path, error) from None
    return written


def has_unfinished_run(path: Path) -> bool:
    """Whether a node's folder holds a run that has not ended, and a checkpoint of it."""
    return any((path / CHECKPOINT_FOLDER).glob("*.ckpt")) and not has_ended_run(path)


def has_ended_run(path: Path) -> bool:
    """Whether a node's folder holds a run whose every step is done."""
    return _state(path) == "done"


def _unusable(path: Path, error: OSError) -> RunDirectoryUnusable:
    return RunDirectoryUnusable(
        f"the run directory {path} cannot be written: {error.strerror}",
        "make room there or make it yours, or begin a new run in another folder with --set cluster.runs=PATH",
    )


def _state(path: Path) -> str:
    try:
        summary: JsonObject = json.loads((path / SUMMARY_FILE).read_text())
        return str(summary.get("state", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _settings_before(path: Path) -> JsonObject:
    try:
        return shared_settings(Configuration.from_json((path / CONFIGURATION_FILE).read_text()))
    except (OSError, ValueError) as error:
        raise RunMismatch(
            f"{path / CONFIGURATION_FILE}, which says how the run there was made, cannot be read: {error!s:.200}",
            "start over with --fresh: what is there is kept under earlier/",
        ) from None


def _mismatch(path: Path, found: list[Difference]) -> RunMismatch:
    listed = "; ".join(f"{it.key} was {_short(it.there)} and is now {_short(it.here)}" for it in found)
    return RunMismatch(
        f"the run in {path} has not ended, and was made with other settings: {listed}",
        "set them back to go on with it, or start over with --fresh: what is there is kept under earlier/",
    )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
