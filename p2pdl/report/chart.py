"""A chart as it is before it is drawn: curves, bars side by side, or distributions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat
from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """One line or point cloud of a chart.

    Attributes:
        name: In the legend.
        x: Where; if it does not ascend, the points are a cloud, and no line joins them.
        y: How much, as many as `x`; None where the curve is broken.
        published: True if these are somebody else's figures.
    """

    name: str
    x: list[FiniteFloat]
    y: list[float | None]
    published: bool = False

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"the series {self.name!r} has {len(self.x)} places and {len(self.y)} values")


@dataclass(frozen=True)
class LineChart:
    """Curves.

    Attributes:
        name: Of its file, without the ending.
        title: Above it.
        caption: What is seen.
        x: The axis's label, with its unit.
        y: The same.
        series: The curves.
        log_x: Whether the axis is logarithmic.
        log_y: The same.
        points: True to mark each point, where they are few.
        level: A horizontal line to compare with; none if None.
    """

    name: str
    title: str
    caption: str
    x: str
    y: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False
    points: bool = False
    level: float | None = None
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True)
class Bars:
    """Bars of one colour, one for each group.

    Attributes:
        name: In the legend.
        values: One for each group of the chart; None where there is none.
        published: True if these are somebody else's figures.
    """

    name: str
    values: list[float | None]
    published: bool = False


@dataclass(frozen=True)
class BarChart:
    """Bars side by side.

    Attributes:
        name: Of its file, without the ending.
        title: Above it.
        caption: What is seen.
        y: The label of their lengths, with its unit.
        groups: What stands beside each group.
        series: The bars.
        log: Whether lengths are logarithmic.
        level: A line across to compare with; none if None.
    """

    name: str
    title: str
    caption: str
    y: str
    groups: list[str]
    series: list[Bars]
    log: bool = False
    level: float | None = None
    kind: Literal["bars"] = "bars"

    def __post_init__(self) -> None:
        for bars in self.series:
            if len(bars.values) != len(self.groups):
                raise ValueError(f"{bars.name!r} has {len(bars.values)} bars for {len(self.groups)} groups")


@dataclass(frozen=True)
class Sample:
    """Values of which the distribution is of interest.

    Attributes:
        name: In the legend.
        values: Each one.
    """

    name: str
    values: list[FiniteFloat]


@dataclass(frozen=True)
class Histogram:
    """How often what values occur, each series as shares of its own.

    Attributes:
        name: Of its file, without the ending.
        title: Above it.
        caption: What is seen.
        x: The axis's label, with its unit.
        series: What is compared.
        log: Whether values are binned by their logarithm.
    """

    name: str
    title: str
    caption: str
    x: str
    series: list[Sample]
    log: bool = False
    kind: Literal["histogram"] = "histogram"


Chart = Annotated[LineChart | BarChart | Histogram, Field(discriminator="kind")]
