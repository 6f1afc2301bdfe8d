"""Cases that train once, on data that have to be there, as a dataclass describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, TypeVar

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures


class Described(Protocol):
    """A dataclass that has all that decides what is trained; JSON values.

    Attributes:
        data: What is trained on, see `experiments.harness.data`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def data(self) -> str: ...


Run = TypeVar("Run", bound=Described)


def trained_case(name: str, title: str, run: Run, train: Callable[[Desk, Run], Figures], minutes: float) -> Case:
    """A case whose settings are those of a run, and which needs its data.

    Args:
        name: See `Case`.
        title: See `Case`.
        run: What to train.
        train: Trains it; what it returns are the case's figures.
        minutes: See `Case`.
    """
    return Case(name, title, asdict(run), lambda desk: train(desk, run), minutes, lambda: data.missing(run.data))
