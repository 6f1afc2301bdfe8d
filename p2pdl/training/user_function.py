"""Functions of the user's own, named `module:function` in a configuration: found, called, and blamed well."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from p2pdl.errors import StartupError

_OTHER_PEOPLES_CODE = (
    Path(__file__).resolve().parent.parent,
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")),
)


def call_user_function(
    reference: str,
    folder: Path | None,
    arguments: Mapping[str, Any],
    offered: Mapping[str, Any],
    failure: type[StartupError],
) -> Any:
    """Import `module:function` and call it.

    The configuration file's folder and the working directory are put on `sys.path` and stay there, so that
    the user's code can import its neighbours later as well.

    Args:
        reference: `module:function`, such as `my_models:small_net`.
        folder: The configuration file's folder; None if there is no file.
        arguments: Keyword arguments from the configuration.
        offered: Further keyword arguments, each passed only if the function names it.
        failure: The error to raise.

    Returns:
        Whatever the function returns.

    Raises:
        StartupError: As `failure`, with the place in the user's code that is to blame.
    """
    function = find_user_function(reference, folder, failure)
    keywords = {**_named(function, offered), **arguments}
    try:
        inspect.signature(function).bind(**keywords)
    except TypeError as error:
        raise failure(
            f"{reference} cannot be called with the arguments {_listed(keywords)}: {error}",
            f"its definition is {function.__name__}{inspect.signature(function)}; "
            "make the mapping `arguments` in the configuration fit it",
        ) from None
    try:
        return function(**keywords)
    except (Exception, SystemExit) as error:
        raise failure(
            f"{reference} failed: {describe(error)}",
            f"correct the function; calling it from Python with {_listed(keywords)} shows the whole traceback",
        ) from error


def find_user_function(reference: str, folder: Path | None, failure: type[StartupError]) -> Callable[..., Any]:
    """Import the function that `module:function` names.

    Args:
        reference: `module:function`; the function may be an attribute path such as `Class.method`.
        folder: The configuration file's folder; None if there is no file.
        failure: The error to raise.

    Raises:
        StartupError: As `failure`: there is no such module or function, or the module fails on import.
    """
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name:
        raise failure(
            f"{reference!r} is not of the form module:function",
            "write the module's import name, a colon and the function's name, such as my_models:small_net",
        )
    function: Any = _import(module_name, reference, folder, failure)
    for name in function_name.split("."):
        if not hasattr(function, name):
            near = difflib.get_close_matches(name, dir(function), n=1)
            hint = f"; the nearest name in it is {near[0]}" if near else ""
            raise failure(
                f"{reference}: the module {module_name} has no {function_name}{hint}",
                f"define {function_name} in {getattr(function, '__file__', module_name)}, or name another function",
            )
        function = getattr(function, name)
    if not callable(function):
        raise failure(
            f"{reference} is a {type(function).__name__}, not a function",
            "name a function; it is called once on every node",
        )
    return function


def describe(error: BaseException) -> str:
    """The error's type and message, and the user's line that is to blame if one can be found."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = _place(error)
    return f"{text} ({place})" if place else text


def _place(error: BaseException) -> str:
    """`file:line` of the innermost frame that is neither a library's nor this package's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if path.is_file() and not any(path.is_relative_to(folder) for folder in _OTHER_PEOPLES_CODE):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def _import(module_name: str, reference: str, folder: Path | None, failure: type[StartupError]) -> ModuleType:
    searched = [str(place.resolve()) for place in (folder, Path.cwd()) if place is not None]
    for place in reversed(searched):
        if place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise failure(
                f"{reference}: there is no module {missing} in {' or '.join(dict.fromkeys(searched))}, "
                "nor among the installed packages",
                f"put {missing.partition('.')[0]}.py beside the configuration file, on every machine",
            ) from None
        raise failure(
            f"{reference}: importing {module_name} failed: {describe(error)}",
            f"install the package that provides {missing} in {sys.prefix}",
        ) from error
    except (Exception, SystemExit) as error:
        raise failure(
            f"{reference}: importing {module_name} failed: {describe(error)}",
            f"correct it; `python -c 'import {module_name}'` shows the whole traceback",
        ) from error


def _named(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that the function names; none if it has no readable signature."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: value for name, value in offered.items() if name in parameters and parameters[name].kind in kinds}


def _listed(keywords: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in keywords.items()) or "()"
