"""Means and differences of variants, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from experiments.harness.variants import Variants, case_name, error, from_to, signed


def test_points_are_compared_seed_by_seed_where_both_are_done() -> None:
    results = {
        case_name("base", 0): {"accuracy": 0.90, "nbytes": 10},
        case_name("base", 1): {"accuracy": 0.80, "nbytes": 30},
        case_name("other", 1): {"accuracy": 0.85, "nbytes": 5},
        case_name("other", 2): {"accuracy": 0.10, "nbytes": 7},
    }
    variants = Variants(results, [0, 1, 2])
    assert variants.points("other", "base") == pytest.approx(5.0)
    assert variants.mean("base") == pytest.approx(0.85)
    assert variants.mean("base", lambda found: found["nbytes"]) == 20
    assert variants.first("other") is results[case_name("other", 1)]
    assert variants.spread(["base", "other"]) == pytest.approx(100 * (0.85 - 0.475))


def test_what_is_missing_is_not_known() -> None:
    variants = Variants({case_name("base", 0): {"accuracy": None}}, [0])
    assert variants.mean("base") is None and variants.points("base", "base") is None
    assert variants.first("other") is None and variants.done("other") == []
    assert variants.spread(["base", "other"]) is None and variants.spread([]) is None


def test_numbers_in_words() -> None:
    assert error(0.975) == pytest.approx(2.5) and error(None) is None
    assert (signed(-0.456), signed(None)) == ("-0.46", "-")
    assert (from_to([0.9, None, 0.85]), from_to([0.9]), from_to([])) == ("0.8500 to 0.9000", "0.9000", "-")
