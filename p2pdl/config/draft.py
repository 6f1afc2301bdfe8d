"""A file in which some settings are wrong, so that the others can still be compared with each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

from p2pdl.config.address import Address, AddressError
from p2pdl.config.setting import Section
from p2pdl.config.source import Location

AnySection = TypeVar("AnySection", bound=Section)


@dataclass(frozen=True)
class Draft:
    """The content of a file in which some settings are wrong.

    Attributes:
        value: Everything, as it was read.
        wrong: Locations at which something is wrong already.
    """

    value: dict[str, Any]
    wrong: frozenset[Location]

    def sound(self, *location: str | int) -> bool:
        """Whether nothing is wrong at, below or around a location."""
        return not any(_related(location, other) for other in self.wrong)

    def section(self, name: str, kind: type[AnySection]) -> AnySection:
        """A section whose keys are all optional, with the wrong ones at their defaults."""
        settings = {tuple(takewhile(lambda part: isinstance(part, str), location)) for location in self.wrong}
        return kind.model_validate({} if (name,) in settings else _without(self.value.get(name), (name,), settings))

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The entries of `nodes` as they were read; an entry that is no mapping becomes an empty one."""
        entries = self.value.get("nodes")
        if not isinstance(entries, list):
            return []
        return [entry if isinstance(entry, dict) else {} for entry in entries]

    @property
    def names(self) -> dict[int, str]:
        """Name by place in the list, of the nodes that have one."""
        named = ((place, entry.get("name")) for place, entry in enumerate(self.nodes))
        return {place: name for place, name in named if isinstance(name, str)}

    def addresses(self, key: str) -> dict[int, Address]:
        """`address` or `bind` by place in the list, of the nodes where it can be read."""
        found: dict[int, Address] = {}
        for place, entry in enumerate(self.nodes):
            try:
                found[place] = Address.parse(entry[key])
            except (KeyError, AddressError, TypeError, AttributeError):
                continue  # missing or wrong: that has its own complaint
        return found


def _related(location: Location, other: Location) -> bool:
    shorter = min(len(location), len(other))
    return location[:shorter] == other[:shorter]


def _without(value: Any, location: Location, wrong: set[Location]) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: (*location, key) for key in value}
    return {key: _without(value[key], inner[key], wrong) for key in value if inner[key] not in wrong}
