"""What an exchange is said to cost, against the bytes that the codecs really make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pdl.codec.ends import decoder, encoder
from p2pdl.config.exchange import Compress, Gossip
from p2pdl.node.exchange_cost import ExchangeCost, exchange_cost
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from tests.stores import dense_spec, random_vector

SPEC = dense_spec(3 * SHARD_ELEMENTS + 4096)
"""Four shards, the last one short."""


def cost(gossip: dict[str, Any] | None = None, elements: int = SPEC.size, **compress: Any) -> ExchangeCost:
    return exchange_cost(Gossip(**gossip or {}), Compress(**compress), elements)


def encoded(codec: str, spec: WeightSpec, pulls: int) -> list[int]:
    """Bytes of one pull after another of weights that move at random."""
    server, puller = encoder(codec, spec), decoder(codec, spec)
    vector = random_vector(spec.size)
    sizes = []
    for version in range(pulls):
        payloads = []
        for number in range(-(-spec.size // SHARD_ELEMENTS)):
            payload, digest = server.encode(number, vector, version, puller.digest(number), seed=version)
            puller.decode(number, payload.tobytes(), digest)
            payloads.append(payload.nbytes)
        sizes.append(sum(payloads))
        vector = vector + 0.01 * random_vector(spec.size, seed=version + 1)
    return sizes


@pytest.mark.parametrize("codec", ["float32", "bfloat16", "float16", "int8"])
def test_stateless_codecs_cost_exactly_what_they_encode(codec: str) -> None:
    told = cost(codec=codec)
    [nbytes] = encoded(codec, SPEC, 1)
    assert (told.codec, told.nbytes, told.first_nbytes, told.is_estimate) == (codec, nbytes, nbytes, False)


def test_float32_is_four_bytes_an_element_and_int8_about_one() -> None:
    assert cost().nbytes == 4 * SPEC.size
    # One byte each, and one float32 for every 256.
    assert cost(codec="int8").nbytes == SPEC.size + SPEC.size // 64


@pytest.mark.parametrize(
    "compress",
    [
        {"codec": "top-k", "density": 0.02},
        {"codec": "top-k", "density": 0.02, "values": "float32"},
        {"codec": "mean-threshold"},
        {"codec": "mean-threshold", "values": "float32"},
    ],
)
def test_deltas_cost_about_what_they_encode_and_the_first_pull_everything(compress: dict[str, Any]) -> None:
    told = cost(**compress)
    first, *later = encoded(told.codec, SPEC, 4)
    assert told.is_estimate
    assert told.first_nbytes == first
    # Differences of weights that are trained are more uneven than these: `mean-threshold` keeps fewer of them.
    assert told.nbytes == pytest.approx(np.mean(later), rel=0.35 if compress["codec"] == "top-k" else 0.9)


def test_packed_frames_cost_at_most_one_byte_more() -> None:
    told = cost(codec="int8", deflate=True)
    assert told.codec == "int8+deflate"
    assert told.is_estimate
    assert told.nbytes == cost(codec="int8").nbytes + 4


def test_fraction_divides_what_a_pull_moves_but_not_the_first_one() -> None:
    told = cost({"fraction": "1/2"}, codec="int8")
    assert (told.parts, 2 * told.nbytes, told.first_nbytes) == (2, SPEC.size + SPEC.size // 64, 2 * told.nbytes)
    # There are no more parts than shards.
    assert cost({"fraction": "1/100"}).parts == 4
    assert cost({"fraction": "1/100"}, elements=16).nbytes == 64


def test_auto_is_told_as_the_codec_that_it_begins_with() -> None:
    assert cost(codec="auto") == cost(codec="int8")


@pytest.mark.parametrize(
    ("gossip", "pulls"),
    [
        ({}, 1),
        ({"peers": 3}, 3),
        ({"topology": "ring", "peers": 1}, 1),
        ({"topology": "static", "graph": {"a": ["b", "c"], "b": ["a"], "c": []}}, 2),
        ({"topology": "static", "graph": {"a": [], "b": []}}, 1),
    ],
)
def test_pulls_are_those_of_the_topology(gossip: dict[str, Any], pulls: int) -> None:
    assert cost(gossip).pulls == pulls
