"""What has been seen of a storm, as plain data: the promises are judged by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2pdl.types import NodeId
from tools.storm.processes import Sample

Lines = Sequence[Mapping[str, Any]]
"""Of a node's `metrics.jsonl`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A time in which a node's own training could not go on.

    Attributes:
        node: Whose.
        begin: Seconds since 1970.
        end: When what stopped it was over: it goes on, or is started again.
        lost: True if its trainer was ended, and has to come back.
    """

    node: NodeId
    begin: float
    end: float
    lost: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a node ended.

    Attributes:
        exit_code: What its last supervisor has ended with; None if it has not ended.
        state: What its summary says; empty without one.
        steps: Steps done, as the summary says.
        accuracy: Test accuracy of the model that it has left; None without one.
        merged: Whose weights are in it.
    """

    exit_code: int | None
    state: str = ""
    steps: int = 0
    accuracy: float | None = None
    merged: Sequence[NodeId] = ()


@dataclass(frozen=True, slots=True)
class View:
    """How one node saw another one.

    Attributes:
        node: Who saw.
        other: Whom.
        state: As what; empty if it did not answer or has never heard of it.
    """

    node: NodeId
    other: NodeId
    state: str


@dataclass(slots=True)
class Observations:
    """Everything that the promises are judged by.

    Attributes:
        steps: Steps that each node had to do.
        lines: Of each node.
        stops: Times in which nodes could not train.
        endings: Of each node.
        samples: Looks at the nodes' processes.
        calm: Whether some nodes still ran when the storm was over.
        agreed_after: Seconds from then until all live nodes agreed on who is there; None if they did not.
        disagreements: What they did not agree on at the last look.
        stores: Stores in memory and live nodes after the storm; None if no node was left then.
        left: What was left at the end, in words.
        wrong: What else went wrong, in words.
    """

    steps: int
    lines: Mapping[NodeId, Lines] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)
    endings: Mapping[NodeId, Ending] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    calm: bool = False
    agreed_after: float | None = None
    disagreements: Sequence[str] = ()
    stores: tuple[int, int] | None = None
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def disagreements(live: Sequence[NodeId], views: Sequence[View]) -> list[str]:
    """What live nodes do not agree on, in words: each has to see every other live one alive, and nobody else.

    Args:
        live: The nodes that run.
        views: How each of them sees each other node of the run.
    """
    found = []
    for view in views:
        if view.node not in live or view.node == view.other:
            continue
        if view.other in live and view.state != "alive":
            found.append(f"{view.node} sees {view.other} {view.state or 'not at all'}")
        elif view.other not in live and view.state == "alive":
            found.append(f"{view.node} sees {view.other} alive, which has ended")
    return found
