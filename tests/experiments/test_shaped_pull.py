"""What is concluded of pulls over shaped links, against figures made by hand, and that both sources have one vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.experiment import Size
from experiments.pulled_vector import CHANGE_SIGMA, WEIGHT_SIGMA, versions
from experiments.shaped_pull import EXPERIMENT, conclude


def found(ratio: float) -> dict[str, Any]:
    return {
        "tcp_seconds": [6.0, 7.0, 8.0],
        "pull_seconds": [7.0 / ratio] * 3,
        "ratio": ratio,
        "ratios": [ratio, ratio + 0.1, ratio - 0.1],
        "payload_nbytes": 8e7,
        "rms_error": 0.0,
    }


def test_each_codec_is_held_against_what_is_claimed_at_its_rate() -> None:
    done = conclude(Size.SMALL, {"100-float32": found(0.94), "1000-float32": found(0.96), "100-int8": found(3.5)})
    verdicts = {promise.what: promise.holds for promise in done.promises}
    assert verdicts["100 Mbit/s: TCP / float32"] is False and verdicts["1000 Mbit/s: TCP / float32"] is True
    assert verdicts["100 Mbit/s: TCP / int8"] is True and verdicts["1000 Mbit/s: TCP / top-k:0.01:int8"] is None
    assert done.tables[0].rows[0] == ["float32", "100", "80.0", "7000", "7447", "0.940", "0.840", "1.040", "0"]
    assert done.sentence.endswith("at 100 Mbit/s: float32 0.94, int8 3.5.")
    [slow, fast] = done.charts[0].series
    assert (slow.values, fast.values) == ([0.94, 3.5, None], [0.96, None, None])


def test_every_codec_is_measured_at_every_rate() -> None:
    assert len(EXPERIMENT.cases(Size.SMALL)) == 6 and len(EXPERIMENT.cases(Size.PAPER)) == 28


def test_processes_have_the_same_versions_without_a_word_between_them() -> None:
    first, second = versions(10_000), versions(10_000)
    one = next(first).copy()
    assert np.array_equal(next(second), one) and abs(one.std() / WEIGHT_SIGMA - 1) < 0.05
    changed, again = next(first), next(second)
    assert np.array_equal(changed, again) and abs((changed - one).std() / CHANGE_SIGMA - 1) < 0.05
