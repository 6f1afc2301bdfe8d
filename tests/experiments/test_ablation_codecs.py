"""What is concluded of the codecs, against figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.ablation_codecs import CODECS, EXPERIMENT, SEEDS, conclude
from experiments.harness.experiment import Size


def found(accuracy: float, megabytes: float) -> dict[str, Any]:
    nbytes = 1e6 * megabytes
    looks = {"nbytes": [nbytes / 2, nbytes], "accuracy": [0.9, accuracy]}
    return {"accuracy": accuracy, "nodes": [accuracy, accuracy - 0.01], "nbytes": nbytes, "looks": looks}


RESULTS = {
    "float32-seed0": found(0.975, 2600.0),
    "int8-seed0": found(0.9751, 660.0),
    "top-k-0.05-int8-seed0": found(0.969, 100.0),
    "top-k-0.01-int8-seed0": found(0.974, 26.0),
}


def test_points_and_shares_are_against_float32() -> None:
    done = conclude(Size.SMALL, RESULTS)
    by_what = {promise.what: promise for promise in done.promises}
    assert by_what["bytes of int8 / float32"].found == f"{660 / 2600:.4g}" and by_what["bytes of int8 / float32"].holds
    assert by_what["points that int8 costs"].holds
    assert by_what["points that top-k-0.05-int8 costs"].holds is False
    assert by_what["bytes of top-k-0.05-int8 / float32"].holds
    assert by_what["bytes of float16 / float32"].holds is None
    # Of those that come to the target, top-k 1 % takes the fewest bytes.
    assert by_what["bytes to 0.97, best codec / float32"].found == "0.01"
    assert "top-k-0.01-int8 ends -0.10 points away with 1/100 of its bytes" in done.sentence
    [table] = done.tables
    assert table.rows[1] == ["int8", "0.9751", "+0.01", "0.9651 to 0.9751", "660", "1/3.94", "660"]
    curves, ends, bars = done.charts
    assert curves.series[0].x == [1300.0, 2600.0]
    assert [one.x for one in ends.series] == [[2600.0], [660.0], [100.0], [26.0]]
    assert bars.series[0].values == pytest.approx([1.0, 660 / 2600, 1 / 26, 0.01])


def test_without_float32_nothing_is_compared() -> None:
    done = conclude(Size.SMALL, {"int8-seed0": found(0.97, 660.0)})
    assert all(promise.holds is None for promise in done.promises)
    assert done.sentence == "Nothing can be compared yet." and done.tables[0].rows[0][-2] == "-"


def test_every_codec_is_tried_with_settings_of_its_own() -> None:
    chosen = [case.settings["sections"]["compress"] for case in EXPERIMENT.cases(Size.SMALL)]
    paper = {case.settings["data"] for case in EXPERIMENT.cases(Size.PAPER)}
    assert paper == {"mnist", "cifar10"}
    assert chosen == len(SEEDS[Size.SMALL]) * list(CODECS.values()) and len({str(one) for one in chosen}) == len(CODECS)
