"""What a field of a message may hold: each kind checks a decoded value and returns it, or says what is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

Scalar = str | int | float | bool | None


class FieldKind(Protocol):
    """Checks one decoded value."""

    def check(self, value: object) -> object:
        """Return the value.

        Raises:
            ValueError: The value is not of this kind; the text says what was expected.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer within inclusive bounds; a bool is not one."""

    low: int = 0
    high: int = 2**63 - 1

    def check(self, value: object) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError(f"an integer from {self.low} to {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Finite:
    """A finite number, or nothing where it is not known."""

    def check(self, value: object) -> float | None:
        if value is None:
            return None
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            raise ValueError("a finite number or nil")
        return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    def check(self, value: object) -> bool:
        if type(value) is not bool:
            raise ValueError("a boolean")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most `limit` characters."""

    limit: int = 64

    def check(self, value: object) -> str:
        if type(value) is not str or len(value) > self.limit:
            raise ValueError(f"text of at most {self.limit} characters")
        return value


@dataclass(frozen=True, slots=True)
class WholeList:
    """At most `limit` integers, each of kind `item`."""

    limit: int
    item: Whole = Whole(0, 2**64 - 1)

    def check(self, value: object) -> tuple[int, ...]:
        if type(value) not in (list, tuple) or len(value) > self.limit:  # type: ignore[arg-type]
            raise ValueError(f"a list of at most {self.limit} integers")
        return tuple(self.item.check(item) for item in value)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Figures:
    """A map from short names to scalars, at most `limit` of them."""

    limit: int = 64

    def check(self, value: object) -> dict[str, Scalar]:
        if type(value) is not dict or len(value) > self.limit:
            raise ValueError(f"a map of at most {self.limit} scalars")
        for key, item in value.items():
            Text(64).check(key)
            if type(item) is str:
                Text(1024).check(item)
            elif type(item) is int:
                Whole(-(2**63), 2**64 - 1).check(item)
            elif item is not None and type(item) is not bool:
                Finite().check(item)
        return value


@dataclass(frozen=True, slots=True)
class Table:
    """At most `limit` rows, each a small map of scalars."""

    limit: int = 256

    def check(self, value: object) -> tuple[dict[str, Scalar], ...]:
        if type(value) not in (list, tuple) or len(value) > self.limit:  # type: ignore[arg-type]
            raise ValueError(f"a list of at most {self.limit} maps")
        return tuple(Figures(16).check(row) for row in value)  # type: ignore[attr-defined]


Count = Annotated[int, Whole()]
Word = Annotated[int, Whole(0, 2**64 - 1)]
Name = Annotated[str, Text(64)]
Number = Annotated[float | None, Finite()]
