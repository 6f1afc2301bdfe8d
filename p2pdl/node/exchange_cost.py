"""What one exchange costs with the configured codec and fraction, told before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.codec import is_stateless
from p2pdl.codec.delta import DeltaSettings
from p2pdl.codec.ends import shard_nbytes
from p2pdl.config.exchange import Compress, Gossip
from p2pdl.protocol.link import FIRST_RUNG, LADDER, density
from p2pdl.spec import SHARD_ELEMENTS, shards_in


@dataclass(frozen=True, slots=True)
class ExchangeCost:
    """The weights that one exchange moves, as they are on the wire; requests and headers come on top of it.

    Attributes:
        codec: The codec's name on the wire; for `auto`, the one that it begins with.
        parts: Into how many parts the model is divided, of which a pull takes one.
        pulls: Pulls of one exchange, at most.
        nbytes: Bytes of one pull, the mean over all parts.
        first_nbytes: Bytes of a node's first pull at most, which takes everything.
        is_estimate: True if the bytes depend on the weights: deltas, and what is packed without loss.
    """

    codec: str
    parts: int
    pulls: int
    nbytes: int
    first_nbytes: int
    is_estimate: bool


def exchange_cost(gossip: Gossip, compress: Compress, elements: int) -> ExchangeCost:
    """Work out the cost.

    Args:
        gossip: How nodes exchange.
        compress: What they leave out.
        elements: Elements of the model's flat vector.
    """
    codec = codec_name(compress)
    if codec == "auto":
        codec = LADDER[FIRST_RUNG]
    parts = min(gossip.parts, shards_in(elements))
    whole = sum(
        shard_nbytes(codec, min(SHARD_ELEMENTS, elements - start)) for start in range(0, elements, SHARD_ELEMENTS)
    )
    usual = whole if is_stateless(codec) else 4 * elements * density(codec)
    return ExchangeCost(
        codec=codec,
        parts=parts,
        pulls=_pulls(gossip),
        nbytes=round(usual / parts),
        first_nbytes=whole,
        is_estimate=compress.deflate or not is_stateless(codec),
    )


def codec_name(compress: Compress) -> str:
    """The configured codec as on the wire, or `auto`."""
    match compress.codec:
        case "auto":
            return "auto"
        case "top-k":
            return DeltaSettings("top-k", compress.density, compress.values).name
        case "mean-threshold":
            return DeltaSettings("mean-threshold", 0.0, compress.values).name
    return compress.codec + ("+deflate" if compress.deflate else "")


def _pulls(gossip: Gossip) -> int:
    if gossip.topology == "random":
        return gossip.peers
    if gossip.topology == "static":
        return max(1, *(len(neighbours) for neighbours in (gossip.graph or {}).values()))
    return 1
