"""The time that is left, from what was expected and what it took."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from experiments.harness.progress import Forecast, ProgressBar


def test_forecast_learns_the_pace_from_what_is_done() -> None:
    forecast = Forecast([10.0, 20.0, 30.0])
    assert forecast.share(None) == 0.0 and forecast.seconds_left(0.0, None) == 60.0
    assert forecast.seconds_left(4.0, None) == 56.0
    assert forecast.seconds_left(100.0, None) == 50.0, "late, but no one knows how much"
    forecast.on_done(20.0)
    assert forecast.share(None) == pytest.approx(1 / 6)
    assert forecast.seconds_left(0.0, None) == 100.0, "all takes twice as long"
    assert forecast.share(0.5) == pytest.approx(20 / 60)
    assert forecast.seconds_left(30.0, 0.75) == pytest.approx(10.0 + 60.0), "the part's own pace counts for it"
    forecast.on_done(0.0)
    assert forecast.share(None) == 0.5 and forecast.seconds_left(0.0, None) == 60.0
    forecast.on_done(60.0)
    assert forecast.share(None) == 1.0 and forecast.seconds_left(5.0, 0.5) == 0.0


def test_without_parts_all_is_done() -> None:
    assert Forecast([]).share(None) == 1.0 and Forecast([]).seconds_left(0.0, None) == 0.0


def test_without_a_terminal_there_are_lines_now_and_then() -> None:
    said = io.StringIO()
    with ProgressBar(Forecast([60.0, 60.0]), Console(file=said, width=200)) as bar:
        with bar.part("first"):
            bar.say(0.5, "[half]")
            bar.say(0.6, "more")
        with bar.part("second"):
            pass
        bar.line("all is done")
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("0 %, ") and lines[0].endswith(" left: first")
    assert [line for line in lines if "second" in line] and lines[-1] == "all is done"
    assert not any("more" in line for line in lines), "half a minute has not passed"


def test_on_a_terminal_there_is_a_bar() -> None:
    said = io.StringIO()
    with ProgressBar(Forecast([60.0]), Console(file=said, width=120, force_terminal=True)) as bar, bar.part("first"):
        bar.say(0.25, "step 3")
    assert "step 3" in said.getvalue() and "25 %" in said.getvalue()
