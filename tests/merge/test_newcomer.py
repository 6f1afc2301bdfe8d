"""When a node counts as a newcomer."""

from __future__ import annotations

import pytest

from p2pdl.merge import is_newcomer
from p2pdl.merge.newcomer import NEWCOMER_LEAD


@pytest.mark.parametrize(
    ("own_step", "peer_step", "merges", "expected"),
    [
        (0, 500, 0, True),
        (0, 500, 1, False),
        (0, NEWCOMER_LEAD, 0, True),
        (0, NEWCOMER_LEAD - 1, 0, False),
        (0, 0, 0, False),
        (5, 3 * NEWCOMER_LEAD, 0, True),
        (100, 200, 0, False),
        (100, 201, 0, True),
        (500, 100, 0, False),
    ],
)
def test_is_newcomer_only_before_first_merge_and_far_behind(
    own_step: int, peer_step: int, merges: int, expected: bool
) -> None:
    assert is_newcomer(own_step, peer_step, merges) is expected
