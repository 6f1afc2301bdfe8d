"""What pydantic found wrong, in words: what was found, what was wanted, the nearest known key, what to write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from p2pdl.config.model import Settings
from p2pdl.config.scalars import FALSE_WORDS, FLOAT, INT, PATTERNS, TRUE_WORDS
from p2pdl.config.setting import Section, choices, example, is_number, note, section_of, setting_paths, wanted, written
from p2pdl.config.source import Document, Location, dotted
from p2pdl.config.texts import EXPLAINED, IDENTIFIER_WANTED, nearest

Complaint = tuple[Location, str, str]
"""Where a mistake is, what is wrong, and what to write."""

_SURE = 0.75
"""Likeness from which a key counts as misspelt rather than misplaced."""

_NAMES_ELSEWHERE = {
    "epochs": "train.passes",
    "lr": "train.optimizer.learning_rate",
    "momentum": "train.optimizer.arguments",
    "dataset": "data.source",
    "host": "nodes.address",
    "port": "nodes.address",
}
"""What other programs call some of the settings."""

_NUMBER_AND_UNIT = re.compile(r"\s*([-+]?[0-9]+)(?:([.,])([0-9]+))?\s*([A-Za-z]*)\s*")


def complaints(errors: Iterable[ErrorDetails], document: Document) -> Iterator[Complaint]:
    """One complaint for each setting that pydantic refused."""
    seen: set[Location] = set()
    for error in errors:
        if error["type"] == "default_factory_not_called":
            continue  # the default depends on a setting that is wrong, and that one has its own error
        location, name, field = _setting(error["loc"])
        if location in seen:
            continue
        seen.add(location)
        if field is None:
            yield location, *_unknown_key(location)
        elif error["type"] == "missing" and len(location) == len(error["loc"]):
            if not _misspelt(location, document):
                yield location, "is missing", f"add `{_line(name, field)}`, {_expectation(field)}"
        elif error["type"] == EXPLAINED:
            message, remedy = error["ctx"]["message"], error["ctx"]["remedy"]
            yield location, f"found {document.found(location)}: {message}", remedy
        else:
            wish = "text" if error["type"] == "string_type" else _expectation(field)
            remedy = _what_to_write(location, name, field, error["type"], document)
            yield location, f"found {document.found(location)}; wanted {wish}", remedy


def _setting(location: Location) -> tuple[Location, str, FieldInfo | None]:
    """The place of an error, but not inside a list that is one setting; and the innermost setting around it."""
    section: type[Section] | None = Settings
    name, field = "", None
    for depth, part in enumerate(location):
        if section is None:
            return (location[:depth] if isinstance(part, int) else location), name, field
        if isinstance(part, str):
            if part not in section.model_fields:
                return location, part, None
            name, field = part, section.model_fields[part]
            section = section_of(field)
    return location, name, field


def _unknown_key(location: Location) -> tuple[str, str]:
    section = _section_at(location[:-1])
    known, key = list(section.model_fields), str(location[-1])
    message = "is not a known key" if len(location) > 1 else "is not a known section"
    if better := nearest(key, known, _SURE):
        return message, f"did you mean `{better}`?"
    if key.lower() in _NAMES_ELSEWHERE:
        return message, f"did you mean `{_NAMES_ELSEWHERE[key.lower()]}`?"
    everywhere: dict[str, list[str]] = {}
    for path, _ in setting_paths(Settings):
        everywhere.setdefault(str(path[-1]), []).append(dotted(path))
    places = everywhere.get(nearest(key, list(everywhere), _SURE), [])
    if len(places) == 1:
        return message, f"did you mean `{places[0]}`?"
    if better := nearest(key, known):
        return message, f"did you mean `{better}`?"
    return message, f"remove it, or use one of {', '.join(known)}"


def _section_at(location: Location) -> type[Section]:
    section: type[Section] = Settings
    for part in location:
        if isinstance(part, str):
            section = section_of(section.model_fields[part]) or section
    return section


def _expectation(field: FieldInfo) -> str:
    unit = note(field, "unit")
    return f"{wanted(field)} ({unit})" if unit and is_number(field) else wanted(field)


def _misspelt(location: Location, document: Document) -> bool:
    """Whether an unknown key beside it is this key written wrongly, which is said there."""
    section = document.at(location[:-1])
    known = list(_section_at(location[:-1]).model_fields)
    given = section if isinstance(section, dict) else {}
    return any(key not in known and nearest(key, known, _SURE) == location[-1] for key in given)


def _what_to_write(location: Location, name: str, field: FieldInfo, kind: str, document: Document) -> str:
    value = document.at(location)
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        word = document.written[location]
        return f'quote it: `{name}: "{word.lower() if note(field, "wanted") == IDENTIFIER_WANTED else word}"`'
    better = _corrected(value, field)
    if better:
        return f"write `{name}: {better}`"
    if value is None and not field.is_required():
        return f"write `{_line(name, field)}`, for example, or remove the line to get the default"
    return f"write, for example, `{_line(name, field)}`"


def _numbers(field: FieldInfo) -> tuple[str, ...]:
    return (INT, FLOAT) if field.annotation is float else (INT,)


def _line(name: str, field: FieldInfo) -> str:
    section = section_of(field)
    shown_example = example(field)
    if section is not None and not shown_example:
        key, first = next(iter(section.model_fields.items()))
        shown_example = "{" + _line(key, first) + "}"
    return f"{name}: {shown_example}"


def _corrected(value: Any, field: FieldInfo) -> str:
    """What the user most likely means; empty where it is anybody's guess."""
    names = choices(field)
    if names:
        if value is False and "none" in names:
            return "none"
        return nearest(value, names) if isinstance(value, str) else ""
    if field.annotation is bool:
        word = str(value).lower()
        return "true" if word in (*TRUE_WORDS, "1") else "false" if word in (*FALSE_WORDS, "0") else ""
    if not is_number(field):
        return ""
    if isinstance(value, float) and value.is_integer() and FLOAT not in _numbers(field):
        return written(value)
    if isinstance(value, str) and any(PATTERNS[kind].match(value) for kind in _numbers(field)):
        return value
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ""
    whole, point, fraction, unit = match.groups()
    if unit and unit.lower() != str(note(field, "unit")).lower():
        return ""
    return f"{whole}.{fraction}" if point else whole
