"""What a parameter server does with an update: rules that scale it, optimizers that apply it, and their registries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pdl.aggregation.adacomp import AdaComp
from p2pdl.aggregation.collection import Collection
from p2pdl.aggregation.constant import Constant
from p2pdl.aggregation.contract import State, Update, UpdateRule
from p2pdl.aggregation.direction_distance import DirectionDistance
from p2pdl.aggregation.dynamic import Dynamic
from p2pdl.aggregation.optimizer import Momentum, NoOptimizer, ServerOptimizer, Sgd

__all__ = [
    "OPTIMIZERS",
    "UPDATE_RULES",
    "Collection",
    "OptimizerSettings",
    "ServerOptimizer",
    "State",
    "Update",
    "UpdateRule",
    "make_optimizer",
    "make_rule",
]

UPDATE_RULES: dict[str, Callable[[int, float], UpdateRule]] = {
    "consgd": lambda size, rate: Constant(rate),
    "dynsgd": lambda size, rate: Dynamic(),
    "direction-distance": lambda size, rate: DirectionDistance(size),
    "adacomp": lambda size, rate: AdaComp(size),
}
"""Rules by the name that a configuration uses."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """What the server's optimizer can be told.

    Attributes:
        learning_rate: Not read by `none`.
        momentum: Read by `momentum` only, as is what follows.
        nesterov: Whether the weights move by the velocity that is to come.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False


OPTIMIZERS: dict[str, Callable[[int, OptimizerSettings], ServerOptimizer]] = {
    "sgd": lambda size, settings: Sgd(settings.learning_rate),
    "momentum": lambda size, settings: Momentum(size, settings.learning_rate, settings.momentum, settings.nesterov),
    "none": lambda size, settings: NoOptimizer(),
}
"""The server's optimizers by the name that a configuration uses."""


def make_rule(name: str, size: int, *, rate: float = 1.0) -> UpdateRule:
    """Build a rule that has seen nothing.

    Args:
        name: A key of `UPDATE_RULES`.
        size: Entries of the server's vector.
        rate: By what `consgd` multiplies every update; read by no other.

    Raises:
        ValueError: The name is unknown, or the rate is not above 0.
    """
    if name not in UPDATE_RULES:
        raise ValueError(f"there is no update rule {name!r}; there are {', '.join(UPDATE_RULES)}")
    return UPDATE_RULES[name](size, rate)


def make_optimizer(name: str, size: int, settings: OptimizerSettings) -> ServerOptimizer:
    """Build an optimizer that has done nothing.

    Args:
        name: A key of `OPTIMIZERS`.
        size: Entries of the server's vector.
        settings: Its rates.

    Raises:
        ValueError: The name is unknown, or a rate is out of its range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](size, settings)
