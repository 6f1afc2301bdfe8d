"""The loop's own figures: time of the steps, of the exchange, and the spans that it records."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from p2pdl.clock import VirtualClock
from p2pdl.errors import DivergedError
from p2pdl.training.loop import train
from p2pdl.training.recorder import Recorder
from p2pdl.training.timeline import Timeline

STEP_SECONDS, EXCHANGE_SECONDS = 0.25, 0.125


class SlowExchange:
    """Takes its time after each step."""

    def __init__(self, clock):
        self._clock = clock
        self.smoothed_loss = 0.5

    def after_step(self, step, samples, loss):
        self._clock.advance_to(self._clock.now() + EXCHANGE_SECONDS)


def run(folder, losses, exchange=True):
    """The progress, and the spans of the timeline."""
    clock = VirtualClock(100.0)
    timeline = Timeline(folder / "timeline.json", "node1")
    given = iter(losses)

    def step(inputs, labels):
        clock.advance_to(clock.now() + STEP_SECONDS)
        return tf.constant(next(given))

    try:
        progress = train(
            step,
            lambda number: (np.zeros((4, 2), np.float32), np.zeros(4, np.int32)),
            len(losses),
            SlowExchange(clock) if exchange else None,
            Recorder(folder / "metrics.jsonl", 1.0, len(losses), clock),
            lambda progress: None,
            lambda: False,
            clock,
            timeline,
        )
    finally:
        timeline.close()
    spans = [event for event in json.loads((folder / "timeline.json").read_text()) if event["ph"] == "X"]
    return progress, spans


@pytest.mark.parametrize("exchange", [True, False])
def test_each_step_is_a_span_and_counted(tmp_path, exchange):
    progress, spans = run(tmp_path, [0.5] * 8, exchange)
    pause = EXCHANGE_SECONDS if exchange else 0.0
    assert progress.compute_seconds == 8 * STEP_SECONDS
    assert progress.exchange_seconds == 8 * pause
    assert [(span["name"], span["tid"], span["dur"], span["args"]) for span in spans] == [
        ("compute", 1, round(1e6 * STEP_SECONDS), {"step": number}) for number in range(1, 9)
    ]
    starts = [100.0 + number * (STEP_SECONDS + pause) for number in range(8)]
    assert [span["ts"] for span in spans] == [round(1e6 * start) for start in starts]


def test_step_that_diverges_is_no_span(tmp_path):
    with pytest.raises(DivergedError, match="step 3"):
        run(tmp_path, [0.5, 0.5, float("nan"), 0.5])
    spans = [event for event in json.loads((tmp_path / "timeline.json").read_text()) if event["ph"] == "X"]
    assert len(spans) == 2
