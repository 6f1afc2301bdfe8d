"""The name of a delta codec on the wire, such as `top-k:0.01:int8`, and what it stands for."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.codec.sparse_values import VALUE_CODINGS
from p2pdl.codec.sparsifier import SPARSIFIERS

_LONGEST_NAME = 64
"""Characters; names come from strangers."""

_FORMS = "mean-threshold, mean-threshold:int8, top-k:0.01 or top-k:0.01:int8, with any density up to 1 for 0.01"


@dataclass(frozen=True, slots=True)
class DeltaSettings:
    """What both ends of a delta have to agree on.

    Attributes:
        sparsifier: A key of `SPARSIFIERS`.
        density: Share of the entries that `top-k` keeps, above 0, 1 at most; 0 for `mean-threshold`.
        values: A key of `VALUE_CODINGS`.

    Raises:
        ValueError: There is no such sparsifier, value coding or density.
    """

    sparsifier: str
    density: float
    values: str

    def __post_init__(self) -> None:
        if self.sparsifier not in SPARSIFIERS:
            raise ValueError(f"there is no sparsifier {self.sparsifier!r}; there are {', '.join(SPARSIFIERS)}")
        if self.values not in VALUE_CODINGS:
            raise ValueError(f"there are no values {self.values!r}; there are {', '.join(VALUE_CODINGS)}")
        if self.sparsifier == "top-k" and not 0.0 < self.density <= 1.0:
            raise ValueError(f"top-k needs a density above 0, 1 at most, not {self.density}")
        if self.sparsifier != "top-k" and self.density != 0.0:
            raise ValueError(f"{self.sparsifier} has no density, but {self.density} is given")

    @property
    def name(self) -> str:
        """The one name of these settings: `parse` gives them back, and takes no other."""
        parts = [self.sparsifier]
        if self.sparsifier == "top-k":
            parts.append(repr(float(self.density)).removesuffix(".0"))
        if self.values != "float32":
            parts.append(self.values)
        return ":".join(parts)

    @classmethod
    def parse(cls, name: str) -> DeltaSettings:
        """The settings of a name.

        Args:
            name: From the configuration or from a stranger.

        Raises:
            ValueError: It is no such name, or not in the form that `name` gives.
        """
        try:
            settings = cls._read(name)
        except ValueError as problem:
            raise ValueError(f"there is no delta codec {name[:_LONGEST_NAME]!r}: {problem}; write {_FORMS}") from None
        if settings.name != name:
            raise ValueError(f"the delta codec {name!r} is written {settings.name!r}")
        return settings

    @classmethod
    def _read(cls, name: str) -> DeltaSettings:
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"it has {len(name)} characters, {_LONGEST_NAME} are allowed")
        sparsifier, *rest = name.split(":")
        density = 0.0
        if sparsifier == "top-k":
            if not rest:
                raise ValueError("top-k needs a density")
            density = float(rest.pop(0))
        if len(rest) > 1:
            raise ValueError("it has too many parts")
        return cls(sparsifier, density, rest[0] if rest else "float32")
