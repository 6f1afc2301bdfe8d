"""A folder that every user may look into, which pytest's own are not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder outside of the test's own; gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="p2pdl-checkpoints-"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)
