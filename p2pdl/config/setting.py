"""One setting of the configuration: its type, limits and everything that its documentation says.

The text that an error gives as "wanted" and the type column of the documentation are the same sentence,
derived from the annotation and the limits, so that they cannot disagree with what is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from p2pdl.config.source import Location

COUNT_LIMIT = 10**9
"""Highest count of anything: far above any use, and small enough for every library behind it."""


class Section(BaseModel):
    """A part of the file: known keys only, no guessing of types, unchanged once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _nothing_below_the_heading(cls, data: Any) -> Any:
        """A section whose keys are all commented out is a section of defaults."""
        return {} if data is None else data


def setting(
    default: Any = ...,
    *,
    meaning: str,
    trade_off: str,
    unit: str = "",
    wanted: str = "",
    example: Any = None,
    default_text: str = "",
    **constraints: Any,
) -> Any:
    """Declare a setting.

    Args:
        default: Its default; without one the setting must be given.
        meaning: What it does.
        trade_off: What more or less of it, or another choice, costs and brings.
        unit: What its number counts.
        wanted: What may be written, where the annotation alone does not say it.
        example: A value for messages; the default where not given.
        default_text: The default in words, where it depends on another setting.
        constraints: Passed on to pydantic's `Field`.
    """
    extra = {
        "trade_off": trade_off,
        "unit": unit,
        "wanted": wanted,
        "example": example,
        "default_text": default_text,
    }
    if default is not ...:
        constraints["default"] = default
    return Field(description=meaning, json_schema_extra=extra, **constraints)


def note(field: FieldInfo, name: str) -> Any:
    """What `setting` was told under that name; empty for a section, which is not a setting."""
    extra = field.json_schema_extra
    return extra.get(name, "") if isinstance(extra, dict) else ""


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that the field holds, alone or as a list; None for a single setting."""
    annotation = field.annotation
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def setting_paths(section: type[Section], prefix: Location = ()) -> Iterator[tuple[Location, FieldInfo]]:
    """Every setting and section below a section, in order; `nodes` stands for each of its entries."""
    for name, field in section.model_fields.items():
        location = (*prefix, name)
        yield location, field
        inner = section_of(field)
        if inner is not None:
            yield from setting_paths(inner, location)


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The names that the setting may take; empty where it is not a choice."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def wanted(field: FieldInfo) -> str:
    """What may be written, such as `a whole number from 1 to 16`."""
    section = section_of(field)
    text = str(note(field, "wanted"))
    if section is not None and not text:
        return f"indented lines of `key: value`, with the keys {', '.join(section.model_fields)}"
    if choices(field):
        return "one of " + ", ".join(choices(field))
    annotation, optional = _without_none(field.annotation)
    nouns = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    text = text or nouns.get(annotation, "a value") + _limits(field)
    return f"{text}, or null" if optional else text


def is_number(field: FieldInfo) -> bool:
    """Whether the setting is a whole number or a number."""
    return _without_none(field.annotation)[0] in (int, float)


def example(field: FieldInfo) -> str:
    """A good value as it is written in the file; empty where there is none to show."""
    value = note(field, "example")
    if value in (None, ""):
        value = None if field.is_required() or section_of(field) else field.get_default()
    return "" if value is None else written(value)


def written(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(written(item) for item in value) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, UnionType):
        return next(kind for kind in get_args(annotation) if kind is not NoneType), True
    return annotation, False


def _limits(field: FieldInfo) -> str:
    low = high = ""
    exclusive = False
    for limit in field.metadata:
        match limit:
            case Ge(ge=value):
                low = str(value)
            case Gt(gt=value):
                low, exclusive = str(value), True
            case Le(le=value):
                high = written(value)
    if exclusive:
        return f" above {low}" + (f" and at most {high}" if high else "")
    if low and high:
        return f" from {low} to {high}"
    return f" of {low} or more" if low else ""
