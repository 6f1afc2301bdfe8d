"""One peer as a source of weights: its link, this end of its codec, and which part of the model comes next."""

from __future__ import annotations

from p2pdl.codec.ends import Decoder, decoder
from p2pdl.errors import PeerTimeout
from p2pdl.protocol.link import Link
from p2pdl.protocol.pull import VersionKey
from p2pdl.puller.puller import PullOrder
from p2pdl.puller.requests import Outcome, Sink
from p2pdl.spec import WeightSpec, shards_in
from p2pdl.types import JsonObject, NodeId


class Source:
    """Orders pulls from one peer, and learns from how they end.

    Args:
        spec: This node's layout.
        link: What is known of the link.
        parts: Into how many parts the model is divided, of which each pull takes the next one.
    """

    def __init__(self, spec: WeightSpec, link: Link, parts: int) -> None:
        self.link = link
        self._spec = spec
        self._shards = shards_in(spec.size)
        self._parts = min(parts, self._shards)
        self._next_part = 0
        self._decoder: Decoder | None = None
        self.age: float | None = None
        self.staleness: int | None = None

    def order(self, peer: NodeId, address: str, sink: Sink, known: VersionKey | None, *, whole: bool) -> PullOrder:
        """The next pull.

        Args:
            peer: Whom to ask.
            address: Where.
            sink: Takes what arrives.
            known: The version that is not worth pulling again.
            whole: True if every entry is wanted, not a part or what has changed most.
        """
        if whole or self._decoder is None or self._decoder.name != self.link.codec:
            self._decoder = decoder(self.link.codec, self._spec)
        part = None
        if self._parts > 1 and not whole:
            first, last = self._next_part * self._shards, (self._next_part + 1) * self._shards
            part = range(first // self._parts, last // self._parts)
            # Another part of the same version is news too.
            known = None
        return PullOrder(peer, address, sink, self.link.pull_settings(), self._decoder, known, part)

    @property
    def sends_differences(self) -> bool:
        """True if what a pull has brought is not sent again by the next one, also if it ended in failure."""
        return self._decoder is not None and self._decoder.has_copies

    def on_outcome(self, outcome: Outcome, interval: float) -> bool:
        """Learn from a pull; True if the next one goes about it in a lighter way.

        Args:
            outcome: How it ended.
            interval: Seconds within which a pull is wanted.
        """
        if isinstance(outcome.error, PeerTimeout):
            return outcome.payload_nbytes > 0 and self.link.on_timeout()
        if outcome.error is None and not outcome.unchanged:
            self.link.on_success(outcome.seconds, outcome.longest_silence, outcome.nbytes, interval)
            self._next_part = (self._next_part + 1) % self._parts
        return False

    def figures(self) -> JsonObject:
        """What the status and `metrics.jsonl` say of the link."""
        rate = self.link.mbit_per_second
        return {
            "codec": self.link.codec,
            "codec_reason": self.link.reason,
            "mbit_per_second": None if rate is None else round(rate, 3),
            "age": None if self.age is None else round(self.age, 3),
            "staleness": self.staleness,
        }
