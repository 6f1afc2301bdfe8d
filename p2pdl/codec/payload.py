"""What every codec checks: payloads that come from a stranger, and values before they leave."""

from __future__ import annotations

import numpy as np

from p2pdl.codec.contract import Bytes, Payload
from p2pdl.codec.finite import is_finite
from p2pdl.errors import RejectedWeights
from p2pdl.types import Float32Vector


def payload_bytes(payload: Payload) -> Bytes:
    """A read-only view of a payload."""
    view = np.frombuffer(payload, np.uint8)
    view.flags.writeable = False
    return view


def exact_bytes(payload: Payload, nbytes: int) -> Bytes:
    """A read-only view of a payload whose length is known.

    Raises:
        RejectedWeights: It has another length; `code` is `length`.
    """
    view = payload_bytes(payload)
    if view.size != nbytes:
        raise RejectedWeights(f"the peer's weights came as {view.size} bytes, not as {nbytes}", code="length")
    return view


def refuse_not_finite(values: Float32Vector) -> None:
    """Check values that a stranger sent.

    Raises:
        RejectedWeights: One of them is not finite; `code` is `not-finite`.
    """
    if not is_finite(values):
        raise RejectedWeights(
            "its weights are not finite",
            "its training has diverged",
            code="not-finite",
        )


def require_finite(values: Float32Vector) -> None:
    """Check values of one's own.

    Raises:
        ValueError: One of them is not finite.
    """
    if not is_finite(values):
        raise ValueError("weights that are not finite cannot be encoded")
