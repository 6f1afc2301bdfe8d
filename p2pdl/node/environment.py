"""What a node runs on: versions, processor, memory, load; written down beside what it does."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from p2pdl._version import VERSION
from p2pdl.errors import RunDirectoryUnusable
from p2pdl.node.local_nodes import cores
from p2pdl.types import JsonObject

log = logging.getLogger(__name__)

ENVIRONMENT_FILE = "environment.json"

LIBRARIES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly", "tf-nightly-cpu"),
    "keras": ("keras", "keras-nightly"),
    "numpy": ("numpy",),
    "pyzmq": ("pyzmq",),
    "msgpack": ("msgpack",),
}
"""Under which names a library may be installed; the first one that is counts."""

PROCESSORS = Path("/proc/cpuinfo")


def environment() -> JsonObject:
    """What this process runs on, as docs/metrics.md lists it; nothing that names the machine or its user.

    Only what is installed is looked at: no library is loaded for it.
    """
    return {
        "versions": {
            "p2pdl": VERSION,
            "python": platform.python_version(),
            **{library: _version(names) for library, names in LIBRARIES.items()},
        },
        "machine": {
            "architecture": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
        },
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": round(os.getloadavg()[0], 2),
    }


def write_environment(folder: Path) -> None:
    """Write down what a node that starts runs on.

    Args:
        folder: Its run folder.

    Raises:
        RunDirectoryUnusable: It cannot be written.
    """
    try:
        _write(folder, environment())
    except OSError as error:
        raise RunDirectoryUnusable(
            f"the run directory {folder} cannot be written: {error.strerror}",
            "make room there or make it yours, or begin a new run in another folder with --set cluster.runs=PATH",
        ) from None


def note_gpus(folder: Path, names: Sequence[str]) -> None:
    """Add the graphics processors, which only the trainer knows; a disk that is full costs them, not the run.

    Args:
        folder: The node's run folder.
        names: As their makers call them.
    """
    try:
        known: JsonObject = json.loads((folder / ENVIRONMENT_FILE).read_text())
        _write(folder, {**known, "gpus": list(names)})
    except (OSError, ValueError) as error:
        log.warning("%s cannot be completed: %s; training goes on", folder / ENVIRONMENT_FILE, error)


def _write(folder: Path, found: JsonObject) -> None:
    (folder / ENVIRONMENT_FILE).write_text(json.dumps(found, indent=2) + "\n")


def _version(names: Sequence[str]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _processor() -> str | None:
    """The processor's name where Linux says it; elsewhere what Python knows, maybe nothing."""
    try:
        text = PROCESSORS.read_text()
    except OSError:
        text = ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, "") or platform.processor() or None
