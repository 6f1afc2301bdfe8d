"""A picture as an element of a page: in the page's colours, as wide as there is room, and small."""

from __future__ import annotations

import re
from html import escape

from p2pdl.report.palette import with_variables
from p2pdl.report.picture import Picture, file_svg

LONG_PATH = 400
"""Letters of a path from which on it is a curve, whose points are rounded to a tenth of a point, else a hundredth."""


def page_svg(picture: Picture) -> str:
    """The picture as SVG inside HTML."""
    text = file_svg(picture)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", text))
    # Only in tags: what is drawn as text stays as it is.
    text = re.sub(r"<[^>]*>", lambda found: _tag(found[0], picture.name, used), text)
    label = f'<svg role="img" aria-label="{escape(picture.title)}"'
    return re.sub(r"\n\s*", "\n", text.replace("<svg", label, 1))


def _tag(tag: str, name: str, used: set[str]) -> str:
    """A tag without what the page decides or nobody refers to."""
    if tag.startswith("<svg"):
        return re.sub(r" (width|height|xmlns|xmlns:xlink)=\"[^\"]*\"", "", tag)
    if tag.startswith("<path"):
        tag = re.sub(r" d=\"([^\"]*)\"", lambda found: f' d="{_path(found[1])}"', tag)
    if "=" not in tag:
        return tag
    tag = tag.replace("xlink:href", "href").replace("font-family: 'DejaVu Sans'; ", "")
    tag = re.sub(r" transform=\"rotate\(-?0 [^\"]*\)\"", "", tag)
    tag = re.sub(r" id=\"([^\"]*)\"", lambda found: found[0] if found[1] in used else "", tag)
    # Names inside a page are shared by all its pictures.
    tag = re.sub(r"( id=\"|href=\"#|url\(#)", rf"\g<1>{name}-", tag)
    return with_variables(tag) if "#" in tag else tag


def _path(text: str) -> str:
    """The same path in fewer letters: a line that follows another needs no command."""
    places = 1 if len(text) > LONG_PATH else 2
    parts: list[str] = []
    last = ""
    for command in text.split("\n"):
        name, *numbers = command.split() or [""]
        short = [_rounded(number, places) for number in numbers]
        parts += short if name == "L" and last in ("M", "L") else [name, *short]
        last = name
    return " ".join(parts).strip()


def _rounded(number: str, places: int) -> str:
    return f"{float(number):.{places}f}".rstrip("0").rstrip(".") if "." in number else number
