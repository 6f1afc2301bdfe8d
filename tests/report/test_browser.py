"""The pages in a real browser, as wide as a telephone: no errors, every picture, nothing to scroll sideways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pdl.report.chart_pictures import draw_charts
from p2pdl.report.findings_page import findings_page
from p2pdl.report.found_folders import read_all
from p2pdl.report.page import page
from p2pdl.report.pictures import draw
from p2pdl.report.reading import read_run
from tests.report.left_findings import leave_several
from tests.report.left_runs import leave_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--allow-file-access-from-files", "--virtual-time-budget=5000"),
)

TELEPHONE, SCREEN = 390, 1200

PAPER = {1: "rgb(253, 253, 254)", 0: "rgb(20, 24, 28)"}
"""Of the page, by the browser's number of a light and of a dark scheme."""


def probe(width: int) -> str:
    """A page that looks into the report and writes down what it finds."""
    return f"""<!doctype html><html><body style="margin:0">
<iframe id="page" src="report.html" style="border:0;width:{width}px;height:844px"></iframe>
<pre id="found"></pre>
<script>
window.onload = () => {{
  const inside = document.getElementById("page").contentDocument;
  const root = inside.documentElement;
  const seen = [...inside.querySelectorAll("figure svg")].filter(svg => svg.getBoundingClientRect().width > 0);
  const boxes = seen.map(svg => svg.getBoundingClientRect());
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.scrollWidth,
    pictures: boxes.filter(box => box.width > 300 && box.height > 80).length,
    widest: Math.max(...boxes.map(box => box.right)),
    text: Math.min(...seen.map((svg, number) => parseFloat(getComputedStyle(svg.querySelector("text")).fontSize)
      * boxes[number].width / svg.viewBox.baseVal.width)),
    table: [...inside.querySelectorAll(".scroll")].some(box => box.scrollWidth > box.clientWidth),
    wide: inside.querySelector(".wide") && getComputedStyle(inside.querySelector(".wide")).display,
    paper: getComputedStyle(inside.body).backgroundColor,
  }});
}};
</script></body></html>
"""


def look(folder: Path, text: str, scheme: int, width: int = TELEPHONE) -> dict[str, Any]:
    """What a browser makes of a page."""
    (folder / "report.html").write_text(text, encoding="utf-8")
    (folder / "probe.html").write_text(probe(width))
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width + 100},900"),
            *(f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", (folder / "probe.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert errors == []
    match = re.search(r'<pre id="found">(\{.*?\})</pre>', done.stdout)
    assert match is not None, done.stderr
    found: dict[str, Any] = json.loads(match[1])
    return found


def page_of_runs(folder: Path) -> tuple[str, int]:
    runs = [read_run(leave_run(folder / name), f"a rather long title of run {name}") for name in ("one", "two")]
    pictures = draw(runs)
    return page(runs, pictures, "Two runs compared"), len(pictures)


def page_of_findings(folder: Path) -> tuple[str, int]:
    found = read_all([leave_several(folder / "small")])
    drawn = draw_charts(found.experiments)
    # What is folded is looked at as well.
    text = findings_page(found.experiments, ["a_rather_long_path/" * 10], drawn, "What was found")
    return text.replace("<details>", "<details open>"), len(drawn.pictures)


needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs the browser chromium on the PATH")


@needs_browser
@pytest.mark.parametrize("scheme", PAPER, ids=["light", "dark"])
@pytest.mark.parametrize("make", [page_of_runs, page_of_findings])
def test_page_fits_a_telephone(tmp_path: Path, make: Callable[[Path], tuple[str, int]], scheme: int) -> None:
    text, pictures = make(tmp_path)
    found = look(tmp_path, text, scheme)
    assert found["width"] <= TELEPHONE and found["widest"] <= TELEPHONE
    assert found["pictures"] == pictures
    assert found["text"] >= 8
    assert found["table"], "a wide table scrolls in its own box"
    assert found["paper"] == PAPER[scheme]


@needs_browser
def test_first_picture_of_findings_is_as_wide_as_a_screen(tmp_path: Path) -> None:
    text, pictures = page_of_findings(tmp_path)
    found = look(tmp_path, text, scheme=1, width=SCREEN)
    assert found["wide"] == "block" and SCREEN - 60 <= found["widest"] <= SCREEN
    assert found["width"] <= SCREEN and found["pictures"] == pictures
    assert found["text"] >= 8
