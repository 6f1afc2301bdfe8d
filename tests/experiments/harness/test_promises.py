"""A figure and what it should be."""

from __future__ import annotations

import pytest

from experiments.harness.promises import at_least, at_most


@pytest.mark.parametrize(
    ("found", "least", "most"),
    [(0.4, False, True), (0.5, True, True), (100 * (0.9727 - 0.9677), True, True), (0.501, True, False)],
)
def test_a_promise_holds_on_its_side_of_the_limit_and_on_it(found: float, least: bool, most: bool) -> None:
    assert at_least("points", 0.5, found).holds is least
    assert at_most("points", 0.5, found).holds is most


def test_a_promise_is_open_while_its_figure_is_not_known() -> None:
    assert at_least("points", 0.5, None).holds is None and at_most("points", 0.5, None).found == ""


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert at_most("points", 0.5, -0.0, " points").found == "0 points"
