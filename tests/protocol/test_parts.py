"""A part of the model: its shards alone travel, and the server is told when it was the last of them."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from p2pdl.codec import create
from p2pdl.codec.ends import StatelessDecoder, decoder
from p2pdl.protocol.actions import Complete
from p2pdl.protocol.messages import Envelope, RangeRequest, Refusal, SnapshotRequest
from p2pdl.protocol.pull import Pull, PullSettings
from p2pdl.protocol.serving import Serving
from p2pdl.spec import SHARD_ELEMENTS
from tests.protocol.nodes import CLUSTER, damage_replies, network_of, node_serving, run_pull
from tests.stores import dense_spec, random_vector

VECTOR = random_vector(4 * SHARD_ELEMENTS + 1600)
SPEC = dense_spec(VECTOR.size)
PARTS = [range(0, 1), range(0, 5), range(1, 3), range(2, 5), range(4, 5)]


def elements(part: range) -> slice:
    return slice(part.start * SHARD_ELEMENTS, min(part.stop * SHARD_ELEMENTS, VECTOR.size))


@pytest.mark.parametrize("range_shards", [1, 2, 4])
@pytest.mark.parametrize("codec", ["float32", "int8", "top-k:0.05"])
@pytest.mark.parametrize("part", PARTS)
def test_part_asks_for_its_shards_alone_and_the_lease_ends(part: range, codec: str, range_shards: int) -> None:
    node = node_serving(VECTOR)
    network, serving = network_of(node), Serving(CLUSTER, node)
    damage_replies(network, node, lambda request, reply, payload: (reply, payload), serving)
    settings = PullSettings(range_shards=range_shards, window=4)
    pulled = run_pull(network, VECTOR.size, settings, decoder=decoder(codec, SPEC), part=part)
    assert isinstance(pulled.last, Complete)
    inside = np.zeros(VECTOR.size, bool)
    inside[elements(part)] = True
    np.testing.assert_array_equal(~np.isnan(pulled.vector), inside)
    allowed = np.abs(VECTOR).max() / 127 * 1.001 if codec == "int8" else 0.0
    assert np.abs(pulled.vector - VECTOR)[inside].max() <= allowed
    ranges = [request for request in pulled.requests() if isinstance(request, RangeRequest)]
    assert [request.offset for request in ranges] == [
        number * SHARD_ELEMENTS for number in range(part.start, part.stop, range_shards)
    ]
    assert [request.last for request in ranges] == [False] * (len(ranges) - 1) + [True]
    in_advance = RangeRequest("", 1, 0, SHARD_ELEMENTS, "float32", (), False)
    reply, _ = serving.on_request(Envelope(1, CLUSTER, "alpha", in_advance), network.clock.now())
    assert isinstance(reply, Refusal) and reply.code == "no-lease"
    # Its place is free as well.
    reply, _ = serving.on_request(Envelope(1, CLUSTER, "gamma", SnapshotRequest(SPEC.digest)), network.clock.now())
    assert not isinstance(reply, Refusal)


@pytest.mark.parametrize(
    "part", [range(0), range(5, 5), range(2, 2), range(3, 2), range(0, 6), range(5, 6), range(-1, 2), range(0, 5, 2)]
)
def test_part_that_could_never_be_completed_is_refused_at_once(part: range) -> None:
    with pytest.raises(ValueError, match=r"range\(.*\) is no part of 5 shards"):
        run_pull(network_of(node_serving(VECTOR)), VECTOR.size, part=part)


def test_vector_of_no_elements_cannot_be_pulled() -> None:
    with pytest.raises(ValueError, match=r"range\(0, 0\) is no part of 0 shards"):
        Pull("beta", 0, "", count(1), PullSettings(range_shards=1, window=4), StatelessDecoder(create("float32"), 0))


def test_parts_one_after_another_make_the_whole() -> None:
    network = network_of(node_serving(VECTOR))
    whole = np.full(VECTOR.size, np.nan, np.float32)
    for part in (range(0, 2), range(2, 3), range(3, 5)):
        pulled = run_pull(network, VECTOR.size, part=part)
        whole[elements(part)] = pulled.vector[elements(part)]
    np.testing.assert_array_equal(whole, VECTOR)


def test_parts_of_a_delta_keep_the_copies_of_the_others() -> None:
    node = node_serving(VECTOR)
    network, end = network_of(node), decoder("top-k:1", SPEC)
    for version in range(3):
        for part in (range(0, 2), range(2, 5)):
            pulled = run_pull(network, VECTOR.size, decoder=end, part=part)
            assert isinstance(pulled.last, Complete)
            ranges = [request for request in pulled.requests() if isinstance(request, RangeRequest)]
            assert all((digest != 0) == (version > 0) for request in ranges for digest in request.copies)
        np.testing.assert_array_equal(end.vector, node.published[-1].vector)  # type: ignore[attr-defined]
        node.publish(VECTOR + np.float32(version + 1))
