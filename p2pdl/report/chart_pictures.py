"""All pictures of experiments' charts, each under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdl.report.bar_chart import bar_picture
from p2pdl.report.canvas import SCREEN, TELEPHONE, Room
from p2pdl.report.chart import BarChart, Chart, LineChart
from p2pdl.report.findings import Findings
from p2pdl.report.histogram import histogram_picture
from p2pdl.report.line_chart import line_picture
from p2pdl.report.picture import Picture, require_matplotlib

POINTS = 180_000
"""Points of all curves of a report together."""

MOST_POINTS = 300
LEAST_POINTS = 24
"""Points of one curve."""

LONGEST_NAME = 100


@dataclass(frozen=True)
class Drawn:
    """The pictures of a report.

    Attributes:
        charts: For each experiment, in their order, one picture for each chart; None where nothing could be drawn.
        lead: Which chart comes first of all, as the numbers of its experiment and of the chart; None without any.
        wide: The same chart for a screen.
    """

    charts: list[list[Picture | None]]
    lead: tuple[int, int] | None
    wide: Picture | None

    @property
    def pictures(self) -> list[Picture]:
        """Each chart once."""
        return [picture for row in self.charts for picture in row if picture is not None]


def draw_charts(experiments: Sequence[Findings]) -> Drawn:
    """Draw every chart.

    Args:
        experiments: Whose; what the first one shows first is the lead.

    Raises:
        StartupError: matplotlib is not installed.
    """
    require_matplotlib()
    names = Names()
    points = points_of_each(experiments)
    charts = [
        [draw_chart(chart, names.unique(f"{found.name}-{chart.name}"), TELEPHONE, points) for chart in found.charts]
        for found in experiments
    ]
    lead = next(((i, j) for i, row in enumerate(charts) for j, picture in enumerate(row) if picture is not None), None)
    wide = None
    if lead is not None:
        i, j = lead
        chart = experiments[i].charts[j]
        wide = draw_chart(chart, names.unique(f"{experiments[i].name}-{chart.name}-wide"), SCREEN, MOST_POINTS)
    return Drawn(charts, lead, wide)


def draw_chart(chart: Chart, name: str, room: Room, points: int) -> Picture | None:
    """Draw one chart; None if it holds nothing that can be drawn."""
    if isinstance(chart, LineChart):
        return line_picture(chart, name, room, points)
    if isinstance(chart, BarChart):
        return bar_picture(chart, name, room)
    return histogram_picture(chart, name, room)


def points_of_each(experiments: Sequence[Findings]) -> int:
    """How many points of each curve there may be for the page to stay small."""
    curves = sum(len(chart.series) for found in experiments for chart in found.charts if isinstance(chart, LineChart))
    return max(LEAST_POINTS, min(MOST_POINTS, POINTS // max(1, curves)))


class Names:
    """Makes names for files and for places of a page, none of them twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, text: str) -> str:
        """A name of letters, digits and `-._`, as near to the text as can be."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:LONGEST_NAME] or "chart"
        name, number = plain, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name.casefold())
        return name
