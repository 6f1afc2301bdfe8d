"""What a file says, and where: the values with the line, the spelling and the origin of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pdl.errors import Problem

Location = tuple[str | int, ...]
"""Where a value stands: `("nodes", 1, "address")`."""


LONGEST = 400
"""Letters of one message or remedy; the rest of an absurdly long name or value is cut off."""


@dataclass
class Document:
    """The content of a file, with what an error message needs to know about each value.

    Attributes:
        file: The file, as it was named; None for a `--set` flag.
        value: Its content as mappings, lists, text, numbers, booleans and None.
        lines: The line of every key and list item, counted from 1.
        written: Every scalar as it was written.
        problems: Mistakes of form, found while reading.
        refused: Where these mistakes are, so that nothing else is said about the same values.
        flags: Locations that a `--set` flag has replaced.
    """

    file: Path | None
    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    written: dict[Location, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[Location] = field(default_factory=set)
    flags: list[Location] = field(default_factory=list)

    def line(self, location: Location) -> int | None:
        """The line of a location, or of the nearest thing around it that has one."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return None

    def at(self, location: Location) -> Any:
        """The value at a location; None where there is none."""
        value = self.value
        for part in location:
            if isinstance(part, str) and isinstance(value, dict):
                value = value.get(part)
            elif isinstance(part, int) and isinstance(value, list) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def found(self, location: Location) -> str:
        """The value at a location, in words for a message."""
        value = self.at(location)
        spelling = self.spelling(location)
        if isinstance(value, dict):
            return "keys and values" if value else "an empty mapping"
        if isinstance(value, list):
            words = [self.written.get((*location, place)) for place in range(len(value))]
            listed = "[" + ", ".join(word or "..." for word in words) + "]"
            return f"`{shown(listed)}`"
        if value is None:
            return "nothing" if spelling == "``" else spelling
        if isinstance(value, bool) and spelling.lower() != f"`{value}`".lower():
            return f"{spelling}, which YAML reads as {str(value).lower()}"
        return spelling

    def spelling(self, location: Location) -> str:
        """A scalar as it was written, in backticks."""
        return f"`{shown(self.written.get(location, ''))}`"

    def problem(self, location: Location, message: str, remedy: str) -> Problem:
        """A problem at a location, blamed on the file's line or on the flag that set it."""
        key, message, remedy = dotted(location), shown(message, LONGEST), shown(remedy, LONGEST)
        if self.file is None or any(self._blames(flag, location) for flag in self.flags):
            return Problem(key, message, remedy)
        return Problem(key, message, remedy, self.file, self.line(location))

    def _blames(self, flag: Location, location: Location) -> bool:
        """Whether a flag set this location, or made the section that it is."""
        made = location not in self.lines and flag[: len(location)] == location
        return made or location[: len(flag)] == flag

    def refuse(self, location: Location, message: str, remedy: str) -> None:
        """Note a mistake of form."""
        self.problems.append(self.problem(location, message, remedy))
        self.refused.add(location)


def dotted(location: Location) -> str:
    """A location as messages write it: `nodes[1].address`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in location)
    return text.removeprefix(".")


def shown(text: str, longest: int = 60) -> str:
    """A text on one line of a terminal: shortened, and without control characters."""
    safe = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return safe if len(safe) <= longest else safe[: longest - 3] + "..."
