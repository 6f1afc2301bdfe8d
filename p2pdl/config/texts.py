"""Checks of single values that a type and its limits cannot express, each with what to write instead."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, NoReturn, get_args

from pydantic_core import PydanticCustomError, PydanticKnownError

from p2pdl.config.address import Address, AddressError
from p2pdl.config.names import ModelName, SourceName

EXPLAINED = "explained"
"""Type of the pydantic errors that bring their own message and remedy in `ctx`."""

IDENTIFIER_WANTED = "a name of at most 63 lower-case letters, digits, - and _, starting with a letter or digit"
MODEL_WANTED = f"one of {', '.join(get_args(ModelName))}, or module:function"
SOURCE_WANTED = f"one of {', '.join(get_args(SourceName))}, or npz:PATH, or module:function"

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LIBRARY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FRACTION = re.compile(r"1(/[1-9][0-9]{0,5})?")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def nearest(word: str, known: tuple[str, ...] | list[str], cutoff: float = 0.6) -> str:
    """The known word most like the given one; empty if none is near."""
    plain = word.lower().replace("-", "_")
    by_plain = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    matches = get_close_matches(plain, by_plain, n=1, cutoff=cutoff)
    return by_plain[matches[0]] if matches else ""


def is_function(text: str) -> bool:
    """Whether the text has the form `package.module:function`."""
    return _FUNCTION.fullmatch(text) is not None


def identifier(text: str) -> str:
    """A cluster's or a node's name: it becomes a folder's name and travels with every message."""
    if not _IDENTIFIER.fullmatch(text):
        better = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")[:63]
        _refuse(f"it is not {IDENTIFIER_WANTED}", f"write `{better or 'node1'}`")
    return text


def filled(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        _refuse("the text is empty", "write something, or remove the line to get the default")
    return text


def not_empty(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list with at least one entry."""
    if not entries:
        _refuse("the list is empty", "add a node: `- {name: node1, address: 192.168.1.10:7101}`")
    return entries


def library_name(text: str) -> str:
    """The name of something that Keras knows, such as `sgd`; whether it does is seen when it is built."""
    if not _LIBRARY_NAME.fullmatch(text):
        _refuse("it is not a name that Keras could know", "write letters, digits and _ only, such as `sgd` or `mse`")
    return text


def model_name(text: str) -> str:
    """A built-in model or `module:function`."""
    return _name_or_function(text, get_args(ModelName), MODEL_WANTED)


def source(text: str) -> str:
    """A built-in data set, `npz:PATH` or `module:function`."""
    kind, _, path = text.partition(":")
    if kind == "npz":
        if not path.strip():
            _refuse("the path is missing", "write npz:PATH, such as `npz:data/mnist.npz`")
        return text
    if text.endswith(".npz"):
        _refuse(f"it is not {SOURCE_WANTED}", f"write `npz:{text}`")
    return _name_or_function(text, get_args(SourceName), SOURCE_WANTED)


def address(value: Any) -> Address:
    """An address to listen on."""
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    try:
        return Address.parse(value)
    except AddressError as error:
        _refuse(error.message, error.remedy)


def dialled_address(value: Any) -> Address:
    """An address that other machines can dial."""
    parsed = address(value)
    if parsed.is_wildcard:
        _refuse(
            f"{parsed.host} means every interface of a machine; nobody can dial it",
            f"write this machine's own address here, and `bind: {parsed}` to listen on every interface",
        )
    return parsed


def ordered_interval(limits: tuple[float, float]) -> tuple[float, float]:
    """Two weights in order, within [0, 1]."""
    low, high = limits
    if not 0 <= min(limits) <= max(limits) <= 1:
        _refuse("a weight lies between 0 and 1", "write two numbers between 0 and 1, such as `[0.1, 0.9]`")
    if low > high:
        _refuse("the lower limit is above the upper one", f"write `[{high:g}, {low:g}]`")
    return limits


def fraction(value: Any) -> str:
    """The share of a model in one exchange: `1/k`, and `1` for all of it."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise PydanticKnownError("string_type")
    if not _FRACTION.fullmatch(text):
        _refuse("it is not 1/k with a whole number k", "write `1/1` for the whole model, or `1/4` for a quarter")
    return "1/1" if text == "1" else text


def range_length(value: Any) -> str:
    """How much of a model a worker exchanges at one time: `all`, `auto`, or MiB."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise PydanticKnownError("string_type")
    if text not in ("all", "auto") and not _COUNT.fullmatch(text):
        better = nearest(text, ("all", "auto"))
        _refuse("it is not all, auto, or a whole number from 1", f"write `{better or 'auto'}`, or a number of MiB")
    return text


def _name_or_function(text: str, known: tuple[str, ...], sentence: str) -> str:
    if text in known or is_function(text):
        return text
    if ".py:" in text or "/" in text:
        module, _, function = text.partition(":")
        module = module.removesuffix(".py").strip("./").replace("/", ".")
        _refuse("a module is named with dots, without .py", f"write `{module}:{function or 'function'}`")
    better = nearest(text, known)
    _refuse(
        f"it is not {sentence}",
        f"write `{better}`" if better else f"write `{known[0]}`, or `module:function` for one of your own",
    )


def _refuse(message: str, remedy: str) -> NoReturn:
    context = {"message": message, "remedy": remedy}
    raise PydanticCustomError(EXPLAINED, "{message}; {remedy}", context)
