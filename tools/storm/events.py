"""What can befall a node: the acts of a storm, by the kinds under which they are asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from p2pdl.types import NodeId

Place = Literal["process", "link"]
"""What an act strikes: one of the node's processes, or the way to the node."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a storm can do to a node.

    Attributes:
        kind: Under which it is asked for.
        place: What it strikes.
        stops_training: True if the node's own steps have to stop for it.
        seconds: How long it lasts, from and to; for a kill how long the node stays away.
        value: Its strength, from and to; (0, 0) if it has none.
        words: What people read, with `{seconds}` and `{value}`.
    """

    kind: str
    place: Place
    stops_training: bool
    seconds: tuple[float, float]
    value: tuple[float, float]
    words: str


ACTS = {
    "kill supervisor": Act(
        "kill", "process", True, (0.5, 3.0), (0, 0), "kill -9 of the supervisor; started again after {seconds:.1f} s"
    ),
    "kill trainer": Act("kill", "process", True, (0, 0), (0, 0), "kill -9 of the trainer"),
    "kill server": Act("kill", "process", False, (0, 0), (0, 0), "kill -9 of the server"),
    "pause trainer": Act("pause", "process", True, (0.5, 8.0), (0, 0), "trainer stopped for {seconds:.1f} s"),
    "pause server": Act("pause", "process", False, (0.5, 8.0), (0, 0), "server stopped for {seconds:.1f} s"),
    "pause node": Act("pause", "process", True, (0.5, 8.0), (0, 0), "all processes stopped for {seconds:.1f} s"),
    "restart": Act("restart", "process", True, (0.0, 2.0), (0, 0), "SIGTERM; started again {seconds:.1f} s after it"),
    "partition": Act(
        "partition", "link", False, (3.0, 15.0), (0, 0), "nobody reaches it for {seconds:.1f} s, connections stay up"
    ),
    "corrupt": Act(
        "corrupt", "link", False, (3.0, 15.0), (1e4, 1e7), "one byte in {value:,.0f} wrong for {seconds:.1f} s"
    ),
    "narrow": Act("slow", "link", False, (3.0, 15.0), (1e4, 3e5), "{value:,.0f} bytes/s for {seconds:.1f} s"),
    "delay": Act("slow", "link", False, (3.0, 15.0), (0.05, 0.5), "{value:.2f} s of latency for {seconds:.1f} s"),
}
"""Every act by its name. Values of `corrupt` are bytes from one wrong byte to the next, of `narrow` bytes/s, of `delay`
seconds each way."""

KINDS = tuple(dict.fromkeys(act.kind for act in ACTS.values()))
"""What may be asked for."""


@dataclass(frozen=True, slots=True)
class Event:
    """One act upon one node.

    Attributes:
        at: Seconds since the storm began.
        victim: The node.
        act: A key of `ACTS`.
        seconds: How long it lasts.
        value: Its strength, as `ACTS` says.
    """

    at: float
    victim: NodeId
    act: str
    seconds: float = 0.0
    value: float = 0.0

    @property
    def what(self) -> Act:
        """What its act is."""
        return ACTS[self.act]

    def __str__(self) -> str:
        """What people read."""
        return self.what.words.format(seconds=self.seconds, value=self.value)

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Event:
        """The event out of a JSON object, which may hold more than that.

        Raises:
            ValueError: It is no event.
        """
        try:
            event = cls(*(line[name] for name in cls.__dataclass_fields__))
        except KeyError as error:
            raise ValueError(f"the event has no {error}") from None
        numbers = (event.at, event.seconds, event.value)
        if event.act not in ACTS:
            raise ValueError(f"there is no act {event.act!r}")
        if not all(isinstance(number, int | float) and number >= 0 for number in numbers):
            raise ValueError(f"the numbers of the event {line} have to be 0 or more")
        return event
