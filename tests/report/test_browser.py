"""The page in a real browser, as wide as a telephone: no errors, every picture, nothing to scroll sideways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pdl.report.page import page
from p2pdl.report.pictures import draw
from p2pdl.report.reading import read_run
from tests.report.left_runs import leave_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--allow-file-access-from-files", "--virtual-time-budget=5000"),
)

WIDTH = 390

PROBE = f"""<!doctype html><html><body style="margin:0">
<iframe id="page" src="report.html" style="border:0;width:{WIDTH}px;height:844px"></iframe>
<pre id="found"></pre>
<script>
window.onload = () => {{
  const inside = document.getElementById("page").contentDocument;
  const root = inside.documentElement;
  const boxes = [...inside.querySelectorAll("figure svg")].map(svg => svg.getBoundingClientRect());
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.scrollWidth,
    pictures: boxes.filter(box => box.width > 300 && box.height > 80).length,
    widest: Math.max(...boxes.map(box => box.right)),
    text: parseFloat(getComputedStyle(inside.querySelector("figure svg text")).fontSize)
      * boxes[0].width / inside.querySelector("figure svg").viewBox.baseVal.width,
    table: inside.querySelector(".scroll").scrollWidth > inside.querySelector(".scroll").clientWidth,
    paper: getComputedStyle(inside.body).backgroundColor,
  }});
}};
</script></body></html>
"""


@pytest.mark.skipif(BROWSER is None, reason="needs the browser chromium on the PATH")
@pytest.mark.parametrize("scheme, paper", [(1, "rgb(253, 253, 254)"), (0, "rgb(20, 24, 28)")], ids=["light", "dark"])
def test_page_fits_a_telephone(tmp_path: Path, scheme: int, paper: str) -> None:
    runs = [read_run(leave_run(tmp_path / name), f"a rather long title of run {name}") for name in ("one", "two")]
    pictures = draw(runs)
    (tmp_path / "report.html").write_text(page(runs, pictures, "Two runs compared"))
    (tmp_path / "probe.html").write_text(PROBE)
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(
                BROWSER,
                *FLAGS,
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--blink-settings=preferredColorScheme={scheme}",
            ),
            *("--dump-dom", (tmp_path / "probe.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert errors == []
    match = re.search(r'<pre id="found">(\{.*?\})</pre>', done.stdout)
    assert match is not None, done.stderr
    found = json.loads(match[1])
    assert found["width"] <= WIDTH and found["widest"] <= WIDTH
    assert found["pictures"] == len(pictures)
    assert found["text"] >= 8
    assert found["table"], "a wide table scrolls in its own box"
    assert found["paper"] == paper
