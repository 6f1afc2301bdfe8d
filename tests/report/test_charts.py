"""Charts of experiments as pictures: what is drawn where, what is left out and said, and that nothing breaks them."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text

from p2pdl.report.canvas import MOST_SERIES, SCREEN, TELEPHONE, drawable
from p2pdl.report.chart_pictures import (
    LEAST_POINTS,
    MOST_POINTS,
    POINTS,
    Names,
    draw_chart,
    draw_charts,
    points_of_each,
)
from p2pdl.report.findings import BarChart, Bars, Chart, Histogram, LineChart, Sample, Series
from p2pdl.report.histogram import BINS, shared_edges
from p2pdl.report.inline_picture import page_svg
from p2pdl.report.line_chart import thinned
from p2pdl.report.palette import PAPER, colour
from p2pdl.report.picture import Picture
from tests.report.left_findings import bar_chart, findings, histogram, line_chart


def drawn(chart: Chart, points: int = 300) -> Picture:
    picture = draw_chart(chart, chart.name, TELEPHONE, points)
    assert picture is not None
    return picture


def texts(picture: Picture) -> list[str]:
    return [text.get_text() for text in picture.figure.findobj(Text) if text.get_text()]


def line(*series: Series, **others: Any) -> LineChart:
    return LineChart("a", "A title", "A caption.", "x", "y", list(series), **others)


def test_published_curve_is_dashed_with_hollow_marks_and_says_so() -> None:
    picture = drawn(line_chart())
    ours, theirs = picture.figure.axes[0].lines[:2]
    assert ours.get_linestyle() == "-" and ours.get_marker() in ("None", None)
    assert theirs.get_linestyle() == "--" and theirs.get_marker() == "o"
    assert theirs.get_markerfacecolor() == PAPER and theirs.get_markeredgecolor() == colour(1)
    assert {"curve 0", "curve 1 (published)"} <= set(texts(picture))


def test_published_bars_are_hollow_and_hatched() -> None:
    picture = drawn(bar_chart())
    ours, theirs = picture.figure.axes[0].containers
    assert len(ours) == 3 and len(theirs) == 2, "what is None has no bar"
    assert all(bar.get_hatch() is None and to_hex(bar.get_facecolor()) == colour(0) for bar in ours)
    assert all(bar.get_hatch() and bar.get_facecolor()[3] == 0 for bar in theirs)
    assert all(to_hex(bar.get_edgecolor()) == colour(1) for bar in theirs)
    assert "DGC (published)" in texts(picture)


def test_series_without_a_bar_has_no_entry_and_leaves_the_others_their_colours() -> None:
    series = [Bars("empty", [None, None]), Bars("full", [1.0, 2.0])]
    picture = drawn(BarChart("a", "A title", "A caption.", "y", ["g", "h"], series))
    [full] = picture.figure.axes[0].containers
    assert to_hex(full[0].get_facecolor()) == colour(1)
    assert "full" in texts(picture) and "empty" not in texts(picture)


def test_bars_are_as_long_as_their_figures_which_stand_at_their_ends() -> None:
    picture = drawn(bar_chart(log=False))
    ours, theirs = picture.figure.axes[0].containers
    assert [bar.get_width() for bar in ours] == [5245.0, 7546.0, 3102.0]
    assert [bar.get_width() for bar in theirs] == [121.0, 18.2]
    assert {"5,245", "7,546", "3,102", "121", "18.2"} <= set(texts(picture))
    assert picture.figure.axes[0].get_xlim()[0] == 0
    middles = [bar.get_y() + bar.get_height() / 2 for bar in theirs]
    assert [round(middle) for middle in middles] == [0, 2]


@pytest.mark.parametrize("chart", [line_chart(), bar_chart(), bar_chart(log=False)], ids=["lines", "bars", "linear"])
def test_level_is_a_thin_line_with_its_figure(chart: LineChart | BarChart) -> None:
    picture = drawn(chart)
    level = picture.figure.axes[0].lines[-1]
    found = level.get_xdata() if isinstance(chart, BarChart) else level.get_ydata()
    assert set(np.asarray(found, float)) == {chart.level} and level.get_linewidth() < 1
    assert f"{chart.level:g}" in texts(picture)


def test_histogram_has_shares_of_each_series_in_the_same_bins() -> None:
    chart = histogram()
    outlines = [patch for patch in drawn(chart).figure.axes[0].patches if not patch.get_fill()]
    assert len(outlines) == 2
    first, second = (outline.get_data() for outline in outlines)
    assert np.array_equal(first.edges, second.edges) and len(first.edges) == BINS + 1
    for sample, data in zip(chart.series, (first, second), strict=True):
        counts, _ = np.histogram(sample.values, data.edges)
        assert data.values == pytest.approx(100 * counts / len(sample.values))
        assert data.values.sum() == pytest.approx(100)


def test_histogram_marks_median_and_p90_of_each_series() -> None:
    chart = histogram()
    picture = drawn(chart)
    marks = [float(np.asarray(mark.get_xdata())[0]) for mark in picture.figure.axes[0].lines]
    expected = [float(np.quantile(sample.values, share)) for sample in chart.series for share in (0.5, 0.9)]
    assert marks == pytest.approx(expected)
    assert f"overlapped: median {expected[0]:.3g}, p90 {expected[1]:.3g}" in texts(picture)


@pytest.mark.parametrize("log", [False, True])
def test_bins_reach_from_the_least_to_the_greatest_of_all(log: bool) -> None:
    edges, is_cut = shared_edges([np.array([1.0, 2.0, 3.0]), np.array([2.0, 8.0])], log)
    assert not is_cut and edges[0] == pytest.approx(1) and edges[-1] == pytest.approx(8)
    steps = np.diff(np.log(edges) if log else edges)
    assert steps == pytest.approx(np.full(BINS, steps[0]))


def test_values_far_out_are_counted_in_the_last_bin_and_the_caption_says_so() -> None:
    values = [*np.linspace(1, 2, 999), 1000.0]
    edges, is_cut = shared_edges([np.array(values)], False)
    assert is_cut and edges[-1] < 2.1
    picture = drawn(Histogram("a", "", "A caption.", "x", [Sample("one", values)]))
    (outline,) = [patch for patch in picture.figure.axes[0].patches if not patch.get_fill()]
    assert outline.get_data().values.sum() == pytest.approx(100)
    assert "The last bin holds all that is beyond it." in picture.caption


def test_what_is_not_positive_is_left_out_of_a_logarithmic_chart_and_said() -> None:
    picture = drawn(line(Series("one", [0.0, 1.0, 2.0], [1.0, -1.0, 10.0]), log_x=True, log_y=True))
    assert "Not drawn: 2 points, not positive or not finite." in picture.caption
    bars = drawn(BarChart("a", "", "", "y", ["one", "two"], [Bars("b", [0.0, 10.0])], log=True))
    assert "Not drawn: 1 bar, not positive or not finite." in bars.caption
    shown = drawn(Histogram("a", "", "", "x", [Sample("b", [0.0, 10.0])], log=True))
    assert "Not drawn: 1 value, not positive or not finite." in shown.caption


@pytest.mark.parametrize(
    "chart",
    [
        line(),
        line(Series("one", [], [])),
        line(Series("one", [1.0], [None])),
        line(Series("one", [1.0], [-1.0]), log_y=True),
        BarChart("a", "", "", "", [], []),
        BarChart("a", "", "", "", ["one"], [Bars("b", [None])]),
        Histogram("a", "", "", "", [Sample("b", [])]),
    ],
)
def test_chart_without_figures_is_no_picture(chart: Chart) -> None:
    assert draw_chart(chart, "a", TELEPHONE, 300) is None


def test_points_whose_places_do_not_ascend_are_a_cloud() -> None:
    (cloud,) = drawn(line(Series("one", [3.0, 1.0, 2.0], [1.0, 2.0, 3.0]))).figure.axes[0].lines
    assert cloud.get_linestyle() == "None" and cloud.get_marker() == "o"
    assert list(np.asarray(cloud.get_xdata())) == [3.0, 1.0, 2.0]


def test_points_between_gaps_are_seen() -> None:
    whole, alone = (
        drawn(line(Series("one", [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, None, 2.0, None, 1.0]))).figure.axes[0].lines
    )
    assert len(whole.get_xdata()) == 5
    assert list(np.asarray(alone.get_xdata())) == [1.0, 3.0, 5.0] and alone.get_marker() == "o"


def test_more_series_than_can_be_told_apart_are_counted() -> None:
    picture = drawn(line(*(Series(f"s{i}", [1.0, 2.0], [1.0, 2.0]) for i in range(MOST_SERIES + 3))))
    assert len(picture.figure.axes[0].lines) == MOST_SERIES
    assert "Not drawn: 3 more series." in picture.caption


def test_more_bars_than_can_be_seen_are_counted() -> None:
    groups = [f"group {i}" for i in range(200)]
    picture = drawn(BarChart("a", "", "", "y", groups, [Bars("b", [1.0] * 200), Bars("c", [2.0] * 200)]))
    assert [len(bars) for bars in picture.figure.axes[0].containers] == [48, 48]
    assert "The first 48 groups of 200." in picture.caption


@given(
    values=st.lists(st.none() | st.floats(-10, 10), max_size=200),
    points=st.integers(4, 60),
)
def test_thinned_curve_keeps_extremes_ends_and_gaps(values: list[float | None], points: int) -> None:
    y = np.array(values, float)
    x = np.arange(len(y), dtype=float)
    thin_x, thin_y = thinned(x, y, points)
    known = ~np.isnan(thin_y)
    assert np.array_equal(np.isnan(thin_x), ~known)
    places = thin_x[known].astype(int)
    assert np.array_equal(y[places], thin_y[known]), "points of the curve, none made up"
    assert (np.diff(places) > 0).all()
    gaps = int((~known).sum())
    pieces = int((np.diff(np.append(np.isnan(y), True).astype(int)) == 1).sum())
    assert gaps == max(0, min(pieces, max(1, points // 2)) - 1)
    if pieces <= points // 4:
        assert known.sum() <= points + 4 * pieces
    if pieces == 1:
        inner = y[~np.isnan(y)]
        assert {inner.min(), inner.max(), inner[0], inner[-1]} <= set(thin_y[known])


def test_each_chart_of_a_report_has_a_name_of_its_own() -> None:
    charts = [line_chart("x-y"), bar_chart("../x y"), histogram("")]
    experiments = [findings("a", charts=charts), findings("a-x", charts=[line_chart("y"), line_chart("../Y")])]
    found = draw_charts(experiments)
    names = [picture.name for picture in found.pictures]
    assert names == ["a-x-y", "a-..-x-y", "a", "a-x-y-2", "a-x-..-Y"]
    assert found.lead == (0, 0) and found.wide is not None and found.wide.name == "a-x-y-wide"


def test_first_chart_that_can_be_drawn_leads() -> None:
    found = draw_charts([findings("a", charts=[]), findings("b", charts=[line(), bar_chart()])])
    assert found.lead == (1, 1) and found.charts[1][0] is None
    assert draw_charts([findings("a", charts=[])]).lead is None


@given(st.lists(st.text(max_size=8) | st.sampled_from(["a", "A", "a-2"]), max_size=12))
def test_names_are_never_given_twice_and_stay_in_their_folder(wanted: list[str]) -> None:
    names = Names()
    made = [names.unique(text) for text in wanted]
    assert len({name.casefold() for name in made}) == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) and not name.startswith(".") for name in made)


def test_all_curves_of_a_report_share_its_points() -> None:
    def points(charts: int, curves: int) -> int:
        return points_of_each([findings(charts=[line_chart(points=2, curves=curves)] * charts)])

    assert points(1, 5) == MOST_POINTS
    assert points(1000, 1) == POINTS // 1000
    assert points(100_000, 1) == LEAST_POINTS


def test_what_is_drawn_as_text_stays_as_it_is_in_the_page() -> None:
    title = 'a <b> & " d="M 0.123456 1" id="x" url(#y) #0068a8 $x^{$ _z'
    chart = LineChart("a", title, "", title, title, [Series("_" + title, [1.0, 2.0], [1.0, 2.0])])
    picture = draw_chart(chart, "a", SCREEN, 300)
    assert picture is not None
    svg = page_svg(picture)
    shown = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert svg.count(f">{shown}<") >= 2
    assert "<b>" not in svg


NUMBER = st.floats() | st.sampled_from([0.0, 5e-324, 1e308, -1e99, 1.0, 1.0000001, 1e15 + 1, 1e15]) | st.floats(-5, 5)
FINITE = NUMBER.filter(math.isfinite)
TEXT = st.text(max_size=8) | st.sampled_from(["_x", "$x^{$", "<b>&\"'", "\x00\ud800", "中文" * 30, "a" * 300, "a\nb"])


def some(of: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, min_size=count, max_size=count)


@st.composite
def charts(draw: st.DrawFn) -> Chart:
    count = draw(st.integers(0, 6))
    titles = [draw(TEXT) for _ in range(4)]
    kind = draw(st.sampled_from(["lines", "bars", "histogram"]))
    if kind == "lines":
        series = st.builds(Series, TEXT, some(FINITE, count), some(st.none() | NUMBER, count), st.booleans())
        switches = [draw(st.booleans()) for _ in range(3)]
        return LineChart("a", *titles, draw(st.lists(series, max_size=3)), *switches, draw(st.none() | NUMBER))
    if kind == "bars":
        bars = st.builds(Bars, TEXT, some(st.none() | NUMBER, count), st.booleans())
        return BarChart(
            *("a", *titles[:3], draw(some(TEXT, count)), draw(st.lists(bars, max_size=3)), draw(st.booleans())),
            draw(st.none() | NUMBER),
        )
    samples = st.builds(Sample, TEXT, some(FINITE, count))
    return Histogram("a", *titles[:3], draw(st.lists(samples, max_size=3)), draw(st.booleans()))


@settings(max_examples=60, deadline=None)
@given(charts())
def test_no_figures_and_no_texts_break_a_picture(chart: Chart) -> None:
    picture = draw_chart(chart, "a", TELEPHONE, 20)
    if picture is not None:
        svg = page_svg(picture)
        assert svg.startswith("<svg") and "nan" not in " ".join(re.findall(r' d="([^"]*)"', svg))


@given(st.lists(NUMBER, max_size=10), st.booleans())
def test_drawable_figures_are_finite_and_positive_where_they_must_be(values: list[float], is_logarithmic: bool) -> None:
    def expected(value: float) -> bool:
        is_of_use = value == 0 or 1e-100 < abs(value) < 1e100
        return is_of_use and (value > 0 or not is_logarithmic)

    found = drawable(np.array(values, float), is_logarithmic)
    assert [not math.isnan(value) for value in found] == [expected(value) for value in values]
    assert all(kept == value for kept, value in zip(found, values, strict=True) if expected(value))
