"""Which entries of a gradient a worker sends to a parameter server: sparsifiers, their registry, their bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from p2pdl.sparsifier.adacomp import AdaComp, AdaCompSettings
from p2pdl.sparsifier.contract import Balance, GradientSparsifier, Selection
from p2pdl.sparsifier.esgd import Esgd, EsgdSettings
from p2pdl.sparsifier.mean_threshold import MeanThreshold, MeanThresholdSettings
from p2pdl.sparsifier.none import Everything, EverythingSettings
from p2pdl.sparsifier.payload import SelectionCoding
from p2pdl.sparsifier.threshold import Threshold, ThresholdSettings
from p2pdl.sparsifier.top_fraction import TopFraction, TopFractionSettings
from p2pdl.spec import WeightSpec

__all__ = ["SPARSIFIERS", "Balance", "GradientSparsifier", "Selection", "SelectionCoding", "make_sparsifier"]

SPARSIFIERS: dict[str, tuple[Callable[[WeightSpec, Any, int], GradientSparsifier], type[Any]]] = {
    "none": (Everything, EverythingSettings),
    "threshold": (Threshold, ThresholdSettings),
    "mean-threshold": (MeanThreshold, MeanThresholdSettings),
    "top-fraction": (TopFraction, TopFractionSettings),
    "adacomp": (AdaComp, AdaCompSettings),
    "esgd": (Esgd, EsgdSettings),
}
"""Sparsifiers by the name that a configuration uses, each with the kind of its settings."""


def make_sparsifier(name: str, spec: WeightSpec, seed: int, **settings: float | bool) -> GradientSparsifier:
    """Build a sparsifier.

    Args:
        name: A key of `SPARSIFIERS`.
        spec: The layout of the vector.
        seed: 0 or more; decides all chance. Give each worker its own.
        settings: Fields of the sparsifier's settings; the others keep their defaults.

    Raises:
        ValueError: The name or a setting is unknown, or a value is out of range.
    """
    if name not in SPARSIFIERS:
        raise ValueError(f"there is no sparsifier {name!r}; there are {', '.join(SPARSIFIERS)}")
    build, kind = SPARSIFIERS[name]
    known = [field.name for field in fields(kind)]
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    return build(spec, kind(**settings), seed)
