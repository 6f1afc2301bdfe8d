"""Data in a numpy archive: the arrays x_train, y_train, x_test, y_test in one .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from p2pdl.errors import DataUnavailable
from p2pdl.training.data.dataset import Dataset, checked_dataset

KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(source: str, folder: Path) -> Dataset:
    """Load `npz:PATH`; nothing in the file is executed.

    Args:
        source: `npz:` and a path, relative to `folder`.
        folder: The configuration file's folder.

    Raises:
        DataUnavailable: There is no such file, or its arrays cannot be used.
    """
    path = folder / Path(source.partition(":")[2]).expanduser()
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.npz"))
        raise DataUnavailable(
            f"{source}: there is no file {path}",
            f"relative paths start at {folder}" + (f"; {path.parent} has {', '.join(others)}" if others else ""),
        )
    return checked_dataset(source, str(path), _read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {key: archive[key] if key in KEYS else None for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataUnavailable(
            f"{path} cannot be read as an .npz archive of plain arrays: {error}",
            "write it with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...), "
            "with arrays of numbers only",
        ) from error
