"""From a file and `--set` flags to a configuration, or to every mistake in them at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from p2pdl.config.checks import cross_checks
from p2pdl.config.complaints import Complaint, complaints
from p2pdl.config.draft import Draft
from p2pdl.config.loader import read_file
from p2pdl.config.model import Configuration, Settings
from p2pdl.config.overrides import apply
from p2pdl.config.source import Document, Location
from p2pdl.errors import ConfigurationError, Problem


def load(path: Path | str, overrides: Sequence[str] = ()) -> Configuration:
    """Read a configuration.

    Args:
        path: The YAML file; messages name it as it is given here.
        overrides: `section.key=value`, each replacing one setting of the file; the last one counts.

    Raises:
        ConfigurationError: Something is wrong; it holds every mistake that can be seen, in file order.
    """
    path = Path(path)
    document = read_file(path)
    for override in overrides:
        apply(document, override)
    settings = validate(document)
    sections = {name: getattr(settings, name) for name in Settings.model_fields}
    return Configuration(file=Path(os.path.abspath(path)), **sections)


def validate(document: Document) -> Settings:
    """Check what was read against the known settings.

    Raises:
        ConfigurationError: Something is wrong.
    """
    settings: Settings | None = None
    found: list[Complaint] = []
    try:
        settings = Settings.model_validate(document.value)
    except ValidationError as error:
        found.extend(complaints(error.errors(include_url=False), document))
    wrong = frozenset(location for location, _, _ in found) | document.refused
    found.extend(cross_checks(Draft(document.value, wrong)))
    problems = [*document.problems, *(_problems(found, document))]
    if settings is None or problems:
        raise ConfigurationError(sorted(problems, key=_in_file_order))
    return settings


def _problems(found: list[Complaint], document: Document) -> Iterator[Problem]:
    for location, message, remedy in found:
        if not _refused_already(location, document):
            yield document.problem(location, message, remedy)


def _refused_already(location: Location, document: Document) -> bool:
    return any(location[:length] in document.refused for length in range(1, len(location) + 1))


def _in_file_order(problem: Problem) -> tuple[bool, int]:
    return problem.file is None, problem.line or 0
