"""The experiment of the node without peers: its figures and verdicts against numbers made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import alone
from experiments.alone import ALONE, DEAD, MODELS, SINGLE
from experiments.harness.experiment import Size
from p2pdl.config import load
from p2pdl.errors import ProcessDied


def test_rate_is_that_of_the_lines_that_count() -> None:
    lines = [{"time": 0.0, "step": 0}, {"time": 10.0, "step": 100}, {"time": 11.0, "step": 150}]
    lines += [{"time": 14.0, "step": 180}]
    assert alone.rate(lines, since=10.0) == 20.0
    with pytest.raises(ProcessDied, match="hardly done a step"):
        alone.rate(lines, since=12.0)


def test_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    found = alone.figures([9.0, 20.0, 3.0], [10.0, 10.0, 30.0])
    assert (found["steps_per_second"], found["ratio"]) == (9.0, 0.9)
    assert found["ratios"] == pytest.approx([0.9, 2.0, 0.1])


@pytest.mark.parametrize("ratio, holds", [(0.97, True), (0.969, False)])
def test_verdict_is_that_of_the_nodes_without_peers(ratio: float, holds: bool) -> None:
    rates = {SINGLE: 100.0, ALONE: 100.0, DEAD: 100 * ratio}
    done = alone.conclude(Size.SMALL, {"mlp": {case: alone.figures([rate], [100.0]) for case, rate in rates.items()}})
    verdicts = {promise.what: promise.holds for promise in done.promises}
    assert verdicts[f"mlp, {ALONE}: steps per second / {SINGLE}"] is True
    assert verdicts[f"mlp, {DEAD}: steps per second / {SINGLE}"] is holds
    assert verdicts[f"vgg19-quarter, {DEAD}: steps per second / {SINGLE}"] is None
    assert [row[1] for row in done.tables[0].rows] == [SINGLE, ALONE, DEAD]


@pytest.mark.parametrize("case", [SINGLE, ALONE, DEAD])
def test_configurations_differ_in_their_strategy_alone(case: str, tmp_path: Path) -> None:
    sections = alone.sections(MODELS["vgg19-quarter"], case, "npz:noise.npz")
    file = tmp_path / "peers.yaml"
    nodes = [{"name": "node1", "address": "127.0.0.1:7101"}]
    file.write_text(json.dumps({"cluster": {"name": "alone"}, "nodes": nodes, **sections}))
    configuration = load(file)
    assert configuration.strategy == ("single" if case == SINGLE else "gossip")
    assert (configuration.model.width, configuration.train.batch_size) == (0.25, 32)
    single = alone.sections(MODELS["vgg19-quarter"], SINGLE, "npz:noise.npz")
    assert {**sections, "strategy": "single"} == single
