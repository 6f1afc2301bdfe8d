"""How two models become one: merge rules and their registry, the merge itself, the final average."""

from __future__ import annotations

from collections.abc import Callable

from p2pdl.merge.apply import merge, merge_difference
from p2pdl.merge.claims import Claims
from p2pdl.merge.clipping import DEFAULT_CLIP, Clipping, Distance
from p2pdl.merge.contract import MergeRule, Standing
from p2pdl.merge.contribution import DEFAULT_CLAMP, Contribution
from p2pdl.merge.final import WeightedAverage
from p2pdl.merge.mean import Mean
from p2pdl.merge.newcomer import is_newcomer
from p2pdl.merge.outliers import Outliers
from p2pdl.merge.sequence import joint_shares

__all__ = [
    "DEFAULT_CLIP",
    "MERGE_RULES",
    "Claims",
    "Clipping",
    "Distance",
    "MergeRule",
    "Outliers",
    "Standing",
    "WeightedAverage",
    "create",
    "is_newcomer",
    "merge",
    "merge_difference",
    "joint_shares",
]

MERGE_RULES: dict[str, Callable[[tuple[float, float]], MergeRule]] = {
    "mean": lambda clamp: Mean(),
    "contribution": Contribution,
}
"""Merge rules by the name that a configuration uses."""


def create(name: str, clamp: tuple[float, float] = DEFAULT_CLAMP) -> MergeRule:
    """Build a merge rule.

    Args:
        name: A key of `MERGE_RULES`.
        clamp: Least and greatest share of a peer; read by `contribution` only.

    Raises:
        ValueError: The name is unknown, or the clamp is not two shares in order.
    """
    if name not in MERGE_RULES:
        raise ValueError(f"there is no merge rule {name!r}; there are {', '.join(MERGE_RULES)}")
    return MERGE_RULES[name](clamp)
