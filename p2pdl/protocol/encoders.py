"""A server's encoders: one for each stateless codec, and for delta codecs one copy for each puller, bounded in all."""

from __future__ import annotations

from collections import OrderedDict

from p2pdl.codec import is_stateless
from p2pdl.codec.ends import Encoder, encoder
from p2pdl.spec import WeightSpec
from p2pdl.types import NodeId


class Encoders:
    """Finds the encoder for a puller; of the copies, those used least recently make room.

    A puller whose copy has gone gets whole shards once, and a new copy.

    Args:
        copies: How many copies to keep at most; with 0 every delta is a whole shard.
        copies_nbytes: How much memory they may take.
    """

    def __init__(self, copies: int, copies_nbytes: int) -> None:
        self._copies = copies
        self._copies_nbytes = copies_nbytes
        self._stateless: dict[str, Encoder] = {}
        self._kept: OrderedDict[NodeId, tuple[str, Encoder]] = OrderedDict()
        self.evictions = 0

    @property
    def copies(self) -> int:
        """Copies kept now."""
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Memory of the copies kept now."""
        return sum(kept.nbytes for _, kept in self._kept.values())

    def get(self, puller: NodeId, codec: str, spec: WeightSpec) -> Encoder:
        """The encoder of a codec for a puller, who has one copy at a time.

        Raises:
            ValueError: There is no such codec.
        """
        if is_stateless(codec):
            if codec not in self._stateless:
                self._stateless[codec] = encoder(codec, spec)
            return self._stateless[codec]
        name, found = self._kept.get(puller, ("", None))
        if found is None or name != codec:
            found = encoder(codec, spec)
            self._kept.pop(puller, None)
            self._make_room(found.nbytes)
            if self._copies and found.nbytes <= self._copies_nbytes:
                self._kept[puller] = codec, found
        else:
            self._kept.move_to_end(puller)
        return found

    def forget(self) -> None:
        """Drop everything: the model may be another one now."""
        self._stateless.clear()
        self._kept.clear()

    def _make_room(self, nbytes: int) -> None:
        while self._kept and (len(self._kept) >= self._copies or self.nbytes + nbytes > self._copies_nbytes):
            self._kept.popitem(last=False)
            self.evictions += 1
