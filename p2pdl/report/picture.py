"""A picture: its drawing, its caption, and its files, SVG and PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pdl.errors import P2pdlError, StartupError
from p2pdl.report.palette import GRID, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 4.7
HEIGHT_INCHES = 3.2
"""As wide as a telephone: on one, the text of a picture keeps its size."""

LEGEND_ROW_INCHES = 0.17

SHORT_LABEL = 15
"""Letters of a label of which three fit side by side."""

PNG_DOTS_PER_INCH = 200

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "patch.linewidth": 0.0,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        name: Its file's name without the ending.
        title: What it is called in the page.
        caption: What is seen.
        figure: The drawing.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def require_matplotlib() -> None:
    """See to it that pictures can be drawn.

    Raises:
        StartupError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise StartupError(
            f"pictures need matplotlib, which cannot be imported: {error}",
            "pip install 'p2pdl[report]', or leave out --out and --plots: the tables need nothing",
        ) from None


@contextmanager
def drawing(height: float = HEIGHT_INCHES, legend: bool = False) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, in the style of the report.

    Args:
        height: In inches, of the axes and their labels.
        legend: Whether what has a label is named below the axes, for which the figure then gets higher.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.add_subplot()
        yield figure, axes
        handles, labels = axes.get_legend_handles_labels()
        if legend and handles:
            columns = legend_columns([str(label) for label in labels])
            figure.set_size_inches(WIDTH_INCHES, height + LEGEND_ROW_INCHES * -(-len(labels) // columns))
            figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def legend_columns(labels: list[str]) -> int:
    """Columns of a legend that fit below a picture."""
    return min(len(labels), 3 if max(map(len, labels)) <= SHORT_LABEL else 2)


def file_svg(picture: Picture) -> str:
    """The picture as a file of its own, in light colours."""
    import matplotlib

    buffer = io.StringIO()
    # The salt makes the names inside the same in every run, and different from those of the other pictures.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": picture.name}), _any_script():
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """No warnings of letters that the font is without: what shows an SVG has others, and a PNG has a box there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def write_files(pictures: list[Picture], folder: Path) -> list[Path]:
    """Write each picture as SVG and as PNG.

    Raises:
        P2pdlError: The folder cannot be made or written.
    """
    import matplotlib

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            path = folder / f"{picture.name}.svg"
            path.write_text(file_svg(picture), encoding="utf-8")
            with matplotlib.rc_context(STYLE), _any_script():
                picture.figure.savefig(path.with_suffix(".png"), format="png", dpi=PNG_DOTS_PER_INCH)
            written += [path, path.with_suffix(".png")]
    except OSError as error:
        raise P2pdlError(
            f"the pictures cannot be written to {folder}: {error.strerror}", "name a folder that this user can write"
        ) from None
    return written
