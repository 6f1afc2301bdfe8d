"""When and how a node exchanges weights, as the configuration says it."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.merge import DEFAULT_CLIP
from p2pdl.protocol.link import LinkSettings


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """When and how to exchange.

    Attributes:
        exchange_every: Steps between the starts of two exchanges, at least.
        overlap: True to pull while the next steps compute, False to wait for each pull.
        parts: Into how many parts the model is divided, of which each exchange moves the next one.
        link: What is configured about every link.
        clip: The radius of `Clipping`, in usual distances; None for none.
        measured: True to weigh peers by losses that this node measures itself, not by those that they claim.
    """

    exchange_every: int = 1
    overlap: bool = True
    parts: int = 1
    link: LinkSettings = LinkSettings()
    clip: float | None = DEFAULT_CLIP
    measured: bool = False
