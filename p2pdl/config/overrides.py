"""`--set section.key=value`: one setting of the file replaced from the command line."""

from __future__ import annotations

import re
from typing import Any

from p2pdl.config.loader import read_text
from p2pdl.config.scalars import has_control_character
from p2pdl.config.source import Document, Location, dotted, shown
from p2pdl.errors import ConfigurationError, Problem

_FORM = "write `--set section.key=value`, such as `--set train.passes=10` or `--set nodes.0.address=127.0.0.1:7101`"
_ALTERNATIVES: dict[Location, Location] = {
    ("train", "passes"): ("train", "steps"),
    ("train", "steps"): ("train", "passes"),
}


def apply(document: Document, override: str) -> None:
    """Put a flag's value into the document; what is wrong with the flag becomes one of its problems.

    Args:
        document: The file's content.
        override: Text of the form `section.key=value`; the value is YAML, so lists are written `[0.1, 0.9]`.
    """
    path, equals, text = override.partition("=")
    parts = re.sub(r"\[([0-9]+)\]", r".\1", path.strip()).split(".")
    if not equals or not all(parts) or has_control_character(path):
        document.problems.append(Problem("", f"found `{shown(override)}`, which sets nothing", _FORM))
        return
    try:
        parent, location = _place(document.value, parts)
    except ConfigurationError as error:
        document.problems.extend(error.problems)
        return
    try:
        flag = read_text(text, None, location)
    except ConfigurationError as error:
        quoted = f"if it is text, give it quotes of its own: `--set '{shown(path)}=\"{shown(text)}\"'`"
        document.problems.extend(Problem(wrong.key, wrong.message, quoted) for wrong in error.problems)
        return
    parent[location[-1]] = flag.value
    _take_over(document, flag, location)
    other = _ALTERNATIVES.get(location)
    if other is not None and other not in document.flags and flag.value is not None:
        parent.pop(other[-1], None)


def _place(value: Any, parts: list[str]) -> tuple[Any, Location]:
    """The mapping or list that a path ends in, and the path with numbers where it passes through lists."""
    location: Location = ()
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(value, dict):
            location += (part,)
            if not last and value.get(part) is None:
                value[part] = {}
        elif isinstance(value, list) and re.fullmatch("[0-9]{1,6}", part) and int(part) < len(value):
            location += (int(part),)
        else:
            raise ConfigurationError([_no_place(value, location, part)])
        if last:
            return value, location
        value = value[location[-1]]
    raise AssertionError("a path has at least one part")


def _no_place(value: Any, location: Location, part: str) -> Problem:
    where = dotted(location)
    if isinstance(value, list):
        message = f"there is no entry {shown(part)}; the list has {len(value)}, counted from 0"
        return Problem(where, message, f"write a number below {len(value)}" if value else "add entries to the file")
    return Problem(where, f"holds a single value, so there is no `{shown(part)}` in it", f"write `--set {where}=value`")


def _take_over(document: Document, flag: Document, location: Location) -> None:
    """Forget what the file said there, and blame the flag from now on."""

    def replaced(other: Location) -> bool:
        return other[: len(location)] == location

    document.written = {at: word for at, word in document.written.items() if not replaced(at)} | flag.written
    document.refused = {at for at in document.refused if not replaced(at)} | flag.refused
    document.problems.extend(flag.problems)
    document.flags.append(location)
