"""Rows of the family `codecs`: encoding and decoding, shard by shard as in a pull, against a memcpy.

Each repeat has a new version of the vector, which differs a little from the one before.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from experiments.pulled_vector import CHANGE_SIGMA, layout
from p2pdl.codec import CODECS
from p2pdl.codec.ends import decoder, encoder
from p2pdl.spec import shards_in
from tools.benchmarks.measurement import Effort, Found, Row, alternate, seconds_of
from tools.benchmarks.reference import MEMCPY, memcpy, weights

DELTAS = ("mean-threshold", "mean-threshold:int8", "top-k:0.01", "top-k:0.01:int8")
MEGABYTES = 80

SIDES = {
    "encode": "a server's encoding of {} MB in {}, without the digests of the frames",
    "decode": "a puller's decoding of {} MB in {}, checks of the values included",
}


def measure(effort: Effort, codec: str, side: str) -> Found:
    """Measure milliseconds.

    Args:
        effort: How much.
        codec: Its name on the wire.
        side: `encode` or `decode`.
    """
    elements = effort.elements(MEGABYTES)
    spec = layout(elements)
    ends = encoder(codec, spec), decoder(codec, spec)
    vector = np.zeros(spec.size, np.float32)
    vector[:elements] = weights(elements)
    random = np.random.default_rng(1)
    version = 0
    nbytes = 0

    def transfer() -> float:
        nonlocal version, nbytes
        version += 1
        vector[:elements] += CHANGE_SIGMA * random.standard_normal(elements, np.float32)
        payloads: list[tuple[np.ndarray, int]] = []
        known = [ends[1].digest(number) for number in range(shards_in(spec.size))]

        def encode() -> None:
            for number, digest in enumerate(known):
                payloads.append(ends[0].encode(number, vector, version, digest, version))

        def decode() -> None:
            for number, (payload, digest) in enumerate(payloads):
                ends[1].decode(number, payload.data, digest)

        seconds = {"encode": seconds_of(encode), "decode": seconds_of(decode)}
        nbytes = sum(payload.nbytes for payload, _ in payloads)
        return 1e3 * seconds[side]

    copy = memcpy(elements)
    pairs = alternate(effort.repeats, transfer, lambda: 1e3 * copy())
    smaller = 4 * elements / nbytes
    return Found(pairs, {"times_smaller": smaller, "megabytes": 4e-6 * elements}, f"{smaller:.3g} times smaller")


ROWS = tuple(
    Row(f"{side}-{codec}", what.format(MEGABYTES, codec), MEMCPY, "ms", partial(measure, codec=codec, side=side))
    for codec in (*CODECS, *DELTAS)
    for side, what in SIDES.items()
)
