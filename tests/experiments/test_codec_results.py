"""Results of several codecs: ratios and targets against numbers by hand, and that only what fits is taken as done."""

from __future__ import annotations

import pytest

from experiments.codec_results import compared, first_reached, keep, kept, show
from p2pdl.errors import StartupError

SETTINGS = {"data": "mnist", "steps": None, "learning_rate": 0.05}


def result(codec: str, accuracies: list[float], nbytes: float) -> dict[str, object]:
    """A result with looks at equal distances."""
    looks = [
        {"step": 50 * n, "nbytes": nbytes * n / len(accuracies), "accuracy": accuracy, "loss": 0.1, "distance": 0.0}
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return {
        "codec": codec,
        "settings": SETTINGS,
        "seconds": 61.0,
        "looks": looks,
        "consensus_accuracy": accuracies[-1],
        "node_accuracies": [0.95, 0.96],
        "nbytes": nbytes,
        "final_merge_nbytes": 8_000_000,
        "merges": [10, 11],
        "failures": [{}, {}],
    }


def test_target_is_reached_at_the_first_look_that_is_as_good():
    looks = result("int8", [0.90, 0.97, 0.96, 0.98], 4e6)["looks"]
    assert first_reached(looks, 0.97)["step"] == 100
    assert first_reached(looks, 0.975)["step"] == 200
    assert first_reached(looks, 0.99) is None


def test_rows_compare_with_float32_of_the_same_run():
    results = [
        result("top-k:0.01:int8", [0.90, 0.90, 0.90, 0.972], 1e6),
        result("float32", [0.90, 0.971, 0.973, 0.974], 80e6),
        result("int8", [0.5, 0.6, 0.7, 0.8], 20e6),
    ]
    best, reference, worst = compared(results, 0.97)
    assert (best["step_at_target"], best["nbytes_to_target"]) == (200, 1e6)
    assert best["nbytes_to_target_ratio"] == pytest.approx(1e6 / 40e6)
    assert best["nbytes_ratio"] == pytest.approx(1 / 80)
    assert best["points"] == pytest.approx(-0.2)
    assert (reference["nbytes_to_target_ratio"], reference["nbytes_ratio"], reference["points"]) == (1.0, 1.0, 0.0)
    assert (worst["step_at_target"], worst["nbytes_to_target_ratio"]) == (None, None)
    assert worst["points"] == pytest.approx(-17.4)
    assert "looks" not in worst


def test_rows_without_float32_or_looks_leave_out_what_is_not_known():
    (row,) = compared([{**result("int8", [0.98], 2e6), "looks": []}], 0.97)
    assert (row["nbytes_ratio"], row["points"], row["nbytes_to_target"]) == (None, None, None)


def test_table_shows_shares_and_dashes(capsys):
    results = [result("float32", [0.98], 80e6), result("int8", [0.5], 20e6)]
    show(compared(results, 0.97), SETTINGS, 0.97)
    said = capsys.readouterr().out
    assert "1/4.0" in said and "-48.00" in said and "80.0" in said and "1:01" in said
    assert "a final merge, always in float32, is 8.0 MB more" in said


def test_kept_result_is_found_again_and_one_of_other_settings_is_refused(tmp_path):
    folder = tmp_path / "results"
    made = result("top-k:0.05:int8", [0.98], 1e6)
    assert kept(folder, made["codec"], SETTINGS) is None
    keep(folder, made)
    assert kept(folder, made["codec"], SETTINGS) == made
    assert kept(folder, "top-k:0.01:int8", SETTINGS) is None
    assert [path.name for path in folder.iterdir()] == ["top-k_0.05_int8.json"]
    with pytest.raises(StartupError, match=r"steps None \(now 50\)"):
        kept(folder, made["codec"], {**SETTINGS, "steps": 50})
