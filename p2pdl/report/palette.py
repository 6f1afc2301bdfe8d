"""The colours of pictures and of the page, in a light and a dark version; told apart by people who see fewer."""

from __future__ import annotations

INK = "#1c2127"
GRID = "#d4d9df"
PAPER = "#fdfdfe"
"""Text and axes, the lines behind a curve, and what a page is printed on."""

SERIES = ("#0068a8", "#c64a00", "#007a58", "#a03585", "#8a6100", "#2b87bd", "#b8324a", "#646b75")
"""After Okabe and Ito's colours (Color Universal Design, 2008), darkened to a contrast of at least 3 on white."""

DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.5)))
"""Once the colours have been used up, lines differ in these."""

DARK = {
    INK: "#e4e8ed",
    GRID: "#3a4149",
    PAPER: "#14181c",
    SERIES[0]: "#5ab4f0",
    SERIES[1]: "#ff9152",
    SERIES[2]: "#33c79b",
    SERIES[3]: "#e592cf",
    SERIES[4]: "#e2b545",
    SERIES[5]: "#a4d3f2",
    SERIES[6]: "#f58a9b",
    SERIES[7]: "#a9b1bb",
}
"""What becomes of each colour on a dark page."""

NAMES = {INK: "ink", GRID: "grid", PAPER: "paper"} | {colour: f"series{i}" for i, colour in enumerate(SERIES)}
"""The page's name for each colour."""


def colour(number: int) -> str:
    """The colour of the run or node with this number."""
    return SERIES[number % len(SERIES)]


def variables(dark: bool) -> str:
    """The colours as custom properties of a style sheet."""
    return " ".join(f"--{name}: {DARK[light] if dark else light};" for light, name in NAMES.items())


def with_variables(svg: str) -> str:
    """A picture whose colours are those properties, so that it follows the page."""
    for light, name in NAMES.items():
        svg = svg.replace(light, f"var(--{name})")
    return svg
