"""What a file says that parameter servers and their workers do not do is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdl.node.server_settings import mask_warning
from tests.config.cases import GOOD, read

SERVED = GOOD.replace(":7101\n", ":7101\n    role: server\n") + "strategy: parameter-server\n"


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        (SERVED, False),
        (SERVED + "compress: {mask: magnitude}\n", True),
        (SERVED + "compress: {mask: none}\n", False),
        (SERVED + "compress: {mask: magnitude}\nserver: {optimizer: worker}\n", False),
        (GOOD + "compress: {mask: magnitude}\n", False),
    ],
)
def test_mask_that_nobody_applies_is_told_where_the_file_asks_for_it(tmp_path: Path, text: str, is_told: bool) -> None:
    said = mask_warning(read(tmp_path, text))
    assert bool(said) == is_told
    assert not is_told or ("nothing is masked" in said and "sparsifier: mean-threshold" in said)
