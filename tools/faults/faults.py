"""What a link can do to the bytes that pass over it, one way at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

DAMAGE = 0xFF
"""What a damaged byte is combined with, so that it always becomes another one."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way over a link. Places in the stream count from 0 for each connection.

    Attributes:
        latency: Seconds by which each byte is late.
        bandwidth: Bytes per second that all connections share.
        is_black_hole: What is sent vanishes without a sign, ends of connections too.
        corrupt_every: Of so many bytes the last one is damaged; 0 for none.
        corrupt_at: Place of one byte that is damaged; None for none.
        cut_after: Bytes after which the connection is cut; None for never.
    """

    latency: float = 0.0
    bandwidth: float = float("inf")
    is_black_hole: bool = False
    corrupt_every: int = 0
    corrupt_at: int | None = None
    cut_after: int | None = None

    def __post_init__(self) -> None:
        if self.latency < 0 or not self.bandwidth > 0 or self.corrupt_every < 0:
            raise ValueError(f"latency and corrupt_every must not be negative, bandwidth must be above 0: {self}")

    def damaged(self, piece: bytes, place: int) -> tuple[bytes, int]:
        """A piece of the stream as it arrives, and how many of its bytes are damaged.

        Args:
            piece: What was sent.
            place: Of its first byte in the stream.
        """
        places = {self.corrupt_at - place} if self.corrupt_at is not None else set()
        if self.corrupt_every:
            places.update(range(-(place + 1) % self.corrupt_every, len(piece), self.corrupt_every))
        hit = [at for at in places if 0 <= at < len(piece)]
        if not hit:
            return piece, 0
        changed = bytearray(piece)
        for at in hit:
            changed[at] ^= DAMAGE
        return bytes(changed), len(hit)


@dataclass(frozen=True, slots=True)
class Faults:
    """A link between clients and one target.

    Attributes:
        to_target: What clients send.
        from_target: What they receive.
        refuse: New connections are reset at once; those that are open stay.
        reset: Connections are cut by a reset (RST); else they end as if both sides had closed them (FIN).
    """

    to_target: Way = Way()
    from_target: Way = Way()
    refuse: bool = False
    reset: bool = True


HALF_OPEN = Faults(Way(is_black_hole=True), Way(is_black_hole=True))
"""The other side has vanished without closing its connections."""


@dataclass(slots=True)
class Traffic:
    """Bytes of one way, over all connections so far.

    Attributes:
        received: Taken from the sender.
        delivered: Given to the receiver, damaged ones included.
        swallowed: Taken and never given to anybody.
        corrupted: Damaged.
    """

    received: int = 0
    delivered: int = 0
    swallowed: int = 0
    corrupted: int = 0


@dataclass(slots=True)
class Counters:
    """What a proxy has seen.

    Attributes:
        accepted: Connections taken.
        refused: Connections reset at once, those included that the target did not take.
        cut: Connections that were cut.
        open: Connections that are open now.
        to_target: Bytes of clients.
        from_target: Bytes for clients.
    """

    accepted: int = 0
    refused: int = 0
    cut: int = 0
    open: int = 0
    to_target: Traffic = field(default_factory=Traffic)
    from_target: Traffic = field(default_factory=Traffic)
