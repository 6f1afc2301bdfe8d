"""The folder that a node's run leaves: prepared before anything starts, and an earlier run's never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

from p2pdl.config import Configuration
from p2pdl.errors import RunDirectoryUnusable
from p2pdl.types import NodeId


def run_folder(configuration: Configuration) -> Path:
    """The folder of the cluster's run, `runs/<cluster>`."""
    return configuration.runs_folder / configuration.cluster.name


def create_run_folder(configuration: Configuration) -> Path:
    """Make the folder of the run, where it is not there yet.

    Raises:
        RunDirectoryUnusable: It cannot be made, or not be written.
    """
    folder = run_folder(configuration)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunDirectoryUnusable(
            f"the run directory {folder} cannot be written: {error.strerror}",
            "change cluster.runs (or --set cluster.runs=PATH) to a folder that this user can write",
        ) from None
    return folder


def prepare_node_folder(configuration: Configuration, node: NodeId) -> Path:
    """An empty folder for a node's new run; what an earlier run left there moves to `earlier/`.

    Raises:
        RunDirectoryUnusable: It cannot be made, or not be written.
    """
    parent = create_run_folder(configuration)
    folder = parent / node
    try:
        keep_earlier(parent, [folder])
        folder.mkdir()
    except OSError as error:
        raise RunDirectoryUnusable(
            f"the run directory {folder} cannot be written: {error.strerror}",
            "change cluster.runs (or --set cluster.runs=PATH) to a folder that this user can write",
        ) from None
    return folder


def keep_earlier(parent: Path, paths: list[Path]) -> None:
    """Move what is there into `parent/earlier`, all with the same next free number behind their names."""
    there = [path for path in paths if path.exists()]
    if not there:
        return
    earlier = parent / "earlier"
    earlier.mkdir(exist_ok=True)

    def numbered(path: Path, number: int) -> Path:
        return earlier / f"{path.stem}-{number}{path.suffix}"

    number = 1
    while any(numbered(path, number).exists() for path in paths):
        number += 1
    for path in there:
        path.rename(numbered(path, number))
