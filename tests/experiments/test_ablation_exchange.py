"""What is concluded of the settings of an exchange, against figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.ablation_exchange import EXPERIMENT, VARIANTS, conclude
from experiments.harness.experiment import Size


def found(accuracy: float, step: float) -> dict[str, Any]:
    def node(own: float) -> dict[str, Any]:
        counted = {"wait_seconds": 2.0, "merges": 300, "bytes_received": 5e6}
        return {"summary": {"before_final_merge": {"test_accuracy": own}, **counted}}

    nodes = {"node1": node(accuracy - 0.01), "node2": node(accuracy + 0.002)}
    return {"accuracy": accuracy, "step": {"median": step}, "nodes": nodes}


def results(**changed: tuple[float, float]) -> dict[str, Any]:
    figures = dict.fromkeys(VARIANTS, (0.974, 0.03)) | {name.replace("_", "-"): pair for name, pair in changed.items()}
    return {f"{name}-seed0": found(*pair) for name, pair in figures.items()}


def test_each_group_is_judged_by_itself() -> None:
    done = conclude(Size.SMALL, results(ring=(0.971, 0.03), exponential=(0.977, 0.03), waiting_slow=(0.974, 0.09)))
    assert [promise.holds for promise in done.promises] == [True, False, True, True, True]
    assert [float(promise.found) for promise in done.promises] == pytest.approx([0.974, 0.6, 0.0, 0.0, 3.0])
    assert "by more than 0.60 points" in done.sentence and "3.00 times as long at 300 Mbit/s" in done.sentence
    [table] = done.tables
    ring = table.rows[list(VARIANTS).index("ring")]
    assert ring == ["ring", "0.9710", "-0.30", "0.9610 to 0.9730", "30.0", "2.0", "300", "5.0"]
    errors, time = done.charts
    assert errors.series[1].values[0] == pytest.approx(3.0) and time.series[0].values[-1] == pytest.approx(90.0)


def test_a_group_with_a_gap_is_not_decided() -> None:
    known = results()
    del known["ring-seed0"], known["base-slow-seed0"]
    done = conclude(Size.SMALL, known)
    assert [promise.holds for promise in done.promises] == [True, None, True, True, None]
    assert done.charts[0].series[0].values[1] is None


def test_one_thing_changes_at_a_time() -> None:
    sections = {case.name: case.settings for case in EXPERIMENT.cases(Size.SMALL)}
    base = sections["base-seed0"]
    for name, variant in VARIANTS.items():
        settings = sections[f"{name}-seed0"]
        assert len(variant.gossip) + (variant.rate is not None) == {"base": 0, "waiting-slow": 2}.get(name, 1)
        assert settings["sections"]["train"] == base["sections"]["train"] and settings["data"] == base["data"]
        assert settings["sections"]["gossip"] == {**base["sections"]["gossip"], **variant.gossip}
