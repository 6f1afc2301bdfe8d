"""What arrives in the inbox, against the same sums over whole vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from p2pdl.errors import RejectedWeights
from p2pdl.merge import merge_difference
from p2pdl.puller.inbox import Inbox, aligned_empty
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.types import Float32Vector
from tests.stores import random_vector

SHARD = 32
"""Elements of a shard in these tests; a multiple of the 16 elements at which variables begin."""

SIZES = st.lists(st.tuples(st.integers(0, 70), st.booleans()), min_size=1, max_size=9)


def spec_of(sizes: list[tuple[int, bool]]) -> WeightSpec:
    return WeightSpec.layout([(f"v{place}", (size,), "float32", kept) for place, (size, kept) in enumerate(sizes)])


def oracle(spec: WeightSpec, vector: Float32Vector, base: Float32Vector) -> Float32Vector:
    """`y - x0` but for statistics, which are `y`."""
    difference = vector - base
    for variable in spec.variables:
        if not variable.trainable:
            difference[variable.span] = vector[variable.span]
    return difference


@dataclass
class Arrival:
    """What a pull brings of one shard.

    Attributes:
        span: The shard in the flat vector.
        kept: Which of its elements are sent; statistics always are. None if the shard does not come at all.
        sparse: True if they come with their indices.
    """

    span: slice
    kept: NDArray[np.bool_] | None
    sparse: bool

    def enter(self, inbox: Inbox, vector: Float32Vector) -> None:
        if self.kept is None:
            return
        shard = vector[self.span]
        if self.sparse:
            indices = np.flatnonzero(self.kept)
            inbox.accept(self.span.start, shard[indices], indices)
        else:
            inbox.accept(self.span.start, shard)


@st.composite
def arrivals(draw: st.DrawFn, spec: WeightSpec) -> list[Arrival]:
    """The shards of one pull, in any order: whole ones, sparse ones and missing ones."""
    found = []
    for start in range(0, spec.size, SHARD):
        span = slice(start, min(start + SHARD, spec.size))
        kind = draw(st.sampled_from(["whole", "sparse", "missing"]))
        kept = np.ones(span.stop - start, bool)
        if kind == "sparse":
            density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
            kept = np.random.default_rng(draw(st.integers(0, 99))).random(kept.size) < density
            kept |= is_state(spec)[span]
        found.append(Arrival(span, None if kind == "missing" else kept, kind == "sparse"))
    return list(draw(st.permutations(found)))


def is_state(spec: WeightSpec) -> NDArray[np.bool_]:
    """For each element, whether it is a statistic."""
    mask = np.zeros(spec.size, bool)
    for span in spec.state_spans:
        mask[span] = True
    return mask


def sent(spec: WeightSpec, pulled: list[Arrival]) -> NDArray[np.bool_]:
    """For each element, whether it has been sent."""
    mask = np.zeros(spec.size, bool)
    for arrival in pulled:
        if arrival.kept is not None:
            mask[arrival.span] = arrival.kept
    return mask


def came(spec: WeightSpec, pulled: list[Arrival]) -> NDArray[np.bool_]:
    """For each element, whether its shard has come."""
    mask = np.zeros(spec.size, bool)
    for arrival in pulled:
        mask[arrival.span] = arrival.kept is not None
    return mask


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    """Shards of a few elements, so that small models have many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pdl.puller.inbox.SHARD_ELEMENTS", SHARD)
        yield


@given(sizes=SIZES, data=st.data())
def test_accept_shards_in_any_order_equals_whole_vector_oracle(
    sizes: list[tuple[int, bool]], data: st.DataObject
) -> None:
    spec = spec_of(sizes)
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    starts = data.draw(st.permutations(list(range(0, spec.size, SHARD))))
    inbox = Inbox(spec)
    for known, expected in ((None, vector), (base, oracle(spec, vector, base)), (None, vector)):
        inbox.expect(known)
        for place, start in enumerate(starts):
            inbox.accept(start, vector[start : start + SHARD])
            assert inbox.is_whole == (place + 1 == len(starts))
        inbox.clear_missing()
        np.testing.assert_array_equal(inbox.vector, expected)
        assert inbox.arrived().all()
    inbox.subtract(base)
    np.testing.assert_array_equal(inbox.vector, oracle(spec, vector, base))


@given(sizes=SIZES, weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]), data=st.data())
def test_merge_of_any_mixture_of_shards_equals_numpy_oracle(
    sizes: list[tuple[int, bool]], weight: float, data: st.DataObject
) -> None:
    spec = spec_of(sizes)
    state = is_state(spec)
    own, base = random_vector(spec.size, 3), random_vector(spec.size, 4)
    inbox = Inbox(spec)
    # The second pull finds in the inbox whatever the first one has left there.
    for seed in (5, 6):
        vector = random_vector(spec.size, seed)
        pulled = data.draw(arrivals(spec))
        inbox.expect(base)
        for arrival in pulled:
            arrival.enter(inbox, vector)
        assert inbox.is_whole == all(a.kept is not None and not a.sparse for a in pulled)
        inbox.clear_missing()

        shard_came = came(spec, pulled)
        arrived = [bool(shard_came[variable.span].all()) for variable in spec.variables]
        for variable, found, expected in zip(spec.variables, inbox.arrived(), arrived, strict=True):
            assert found == expected or not variable.size
        difference = np.where(sent(spec, pulled), vector - base, np.float32(0))
        difference[state] = np.where(shard_came, vector, np.float32(0))[state]
        np.testing.assert_array_equal(inbox.vector, difference)

        # What the merge must do, element by element: nothing at all where nothing has come.
        expected = own.copy()
        trained = sent(spec, pulled) & ~state
        expected[trained] = (own + np.float32(weight) * (vector - base))[trained]
        for variable, whole in zip(spec.variables, arrived, strict=True):
            if not variable.trainable and whole:
                mine, theirs = own[variable.span], vector[variable.span]
                expected[variable.span] = mine + np.float32(weight) * (theirs - mine)
        np.testing.assert_array_equal(merged(spec, own, inbox, weight), expected)


def merged(spec: WeightSpec, own: Float32Vector, inbox: Inbox, weight: float) -> Float32Vector:
    """The reference merge of the inbox; statistics that have not arrived stay as they are."""
    result = merge_difference(own, inbox.vector, weight, spec.state_spans)
    for variable, has_arrived in zip(spec.variables, inbox.arrived(), strict=True):
        if not variable.trainable and not has_arrived:
            result[variable.span] = own[variable.span]
    return result


@given(sizes=SIZES, data=st.data())
def test_pull_after_a_partial_one_leaves_nothing_of_it(sizes: list[tuple[int, bool]], data: st.DataObject) -> None:
    spec = spec_of(sizes)
    first, second = random_vector(spec.size, 1), random_vector(spec.size, 2)
    inbox = Inbox(spec)
    inbox.expect(None)
    for arrival in data.draw(arrivals(spec)):
        arrival.enter(inbox, first)
    # Neither a pull that brought nothing at all nor being asked twice makes what is left less stale.
    for _ in range(data.draw(st.integers(0, 2))):
        inbox.expect(None)
    pulled = data.draw(arrivals(spec))
    inbox.expect(None)
    for arrival in pulled:
        arrival.enter(inbox, second)
    inbox.clear_missing()
    np.testing.assert_array_equal(inbox.vector, np.where(sent(spec, pulled), second, np.float32(0)))


def test_sparse_shard_is_not_whole_though_all_of_its_entries_have_come() -> None:
    spec = spec_of([(20, True)])
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    inbox = Inbox(spec)
    inbox.expect(base)
    inbox.accept(0, vector, np.arange(spec.size))
    assert not inbox.is_whole and inbox.arrived().all()
    np.testing.assert_array_equal(inbox.vector, vector - base)
    inbox.expect(base)
    assert not inbox.is_whole and not inbox.arrived().any()
    inbox.accept(0, vector)
    assert inbox.is_whole


def test_accept_statistics_across_the_border_of_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of([(SHARD_ELEMENTS - 40, True), (80, False), (SHARD_ELEMENTS, True), (3, False)])
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    assert spec.state_spans[0].start < SHARD_ELEMENTS < spec.state_spans[0].stop
    monkeypatch.setattr("p2pdl.puller.inbox.SHARD_ELEMENTS", SHARD_ELEMENTS)
    inbox = Inbox(spec)
    inbox.expect(base)
    for start in range(0, spec.size, SHARD_ELEMENTS):
        inbox.accept(start, vector[start : start + SHARD_ELEMENTS])
    np.testing.assert_array_equal(inbox.vector, oracle(spec, vector, base))


def test_accept_and_subtract_leave_shard_and_base_alone() -> None:
    spec = spec_of([(20, True), (20, False)])
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    vector.flags.writeable = base.flags.writeable = False
    inbox = Inbox(spec)
    inbox.expect(base)
    for start in range(0, spec.size, SHARD):
        inbox.accept(start, vector[start : start + SHARD])
        inbox.accept(start, vector[start : start + 4], np.arange(4))
    inbox.clear_missing()
    inbox.subtract(base)


@pytest.mark.parametrize("size", [1, 16, 17, 100_003])
def test_vector_is_aligned_to_64_bytes(size: int) -> None:
    for _ in range(5):
        vector = aligned_empty(size)
        assert (vector.size, vector.dtype, vector.ctypes.data % 64) == (size, np.float32, 0)
        assert vector.flags.writeable and vector.flags.c_contiguous


@given(sizes=SIZES, data=st.data())
def test_distance_is_the_norm_of_what_has_come_without_statistics(
    sizes: list[tuple[int, bool]], data: st.DataObject
) -> None:
    spec = spec_of(sizes)
    base = random_vector(spec.size, 4)
    inbox = Inbox(spec)
    for seed in (5, 6):
        vector, pulled = random_vector(spec.size, seed), data.draw(arrivals(spec))
        inbox.expect(base)
        for arrival in pulled:
            arrival.enter(inbox, vector)
        trained = sent(spec, pulled) & ~is_state(spec)
        distance = inbox.distance
        assert distance.length == pytest.approx(np.linalg.norm((vector - base)[trained].astype(np.float64)), rel=1e-6)
        assert distance.entries == trained.sum()
        assert distance.sparse == any(a.sparse and a.kept is not None for a in pulled)
        own = base[came(spec, pulled) & ~is_state(spec)].astype(np.float64)
        assert inbox.own_scale() == pytest.approx(np.sqrt(np.mean(own**2)) if own.size else 0.0, rel=1e-6)


@given(sizes=SIZES, sparse=st.booleans())
def test_vector_received_as_it_is_has_the_distance_of_what_the_merge_will_add(
    sizes: list[tuple[int, bool]], sparse: bool
) -> None:
    spec = spec_of(sizes)
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    inbox = Inbox(spec)
    inbox.expect(base, raw=True)
    kept = np.zeros(spec.size, bool) | is_state(spec)
    for start in range(0, spec.size, SHARD):
        span = slice(start, min(start + SHARD, spec.size))
        Arrival(span, kept[span], sparse).enter(inbox, vector)
    expected = np.where(kept, vector, np.float32(0)) if sparse else vector
    np.testing.assert_array_equal(inbox.vector, expected)
    # A peer that leaves entries out says that they are 0: that is as far away as 0 is.
    difference = (expected - base)[~is_state(spec)].astype(np.float64)
    assert inbox.distance.length == pytest.approx(np.linalg.norm(difference), rel=1e-6)
    assert (inbox.distance.entries, inbox.distance.sparse) == (difference.size, False)
    inbox.subtract(base)
    np.testing.assert_array_equal(inbox.vector, oracle(spec, expected, base))


@given(sizes=SIZES, data=st.data(), raw=st.booleans())
def test_peers_model_is_what_has_come_and_the_base_elsewhere(
    sizes: list[tuple[int, bool]], data: st.DataObject, raw: bool
) -> None:
    spec = spec_of(sizes)
    vector, base = random_vector(spec.size, 1), random_vector(spec.size, 2)
    inbox, out = Inbox(spec), np.empty(spec.size, np.float32)
    pulled = data.draw(arrivals(spec))
    inbox.expect(base, raw)
    for arrival in pulled:
        arrival.enter(inbox, vector)
    inbox.write_peer(out)
    if raw:
        np.testing.assert_array_equal(out, np.where(sent(spec, pulled), vector, np.float32(0)))
        return
    known = sent(spec, pulled) & ~is_state(spec)
    expected = np.where(known, base + (vector - base), base)
    for variable, arrived in zip(spec.variables, inbox.arrived(), strict=True):
        if not variable.trainable and arrived:
            expected[variable.span] = vector[variable.span]
    np.testing.assert_array_equal(out, expected)


def test_without_a_base_there_is_no_distance() -> None:
    spec = spec_of([(20, True)])
    inbox = Inbox(spec)
    inbox.expect(None)
    inbox.accept(0, random_vector(spec.size))
    assert (inbox.distance.length, inbox.distance.entries) == (0.0, 0)
    with pytest.raises(ValueError, match="no base"):
        inbox.own_scale()


def test_distance_of_values_whose_squares_or_difference_float32_does_not_hold() -> None:
    spec = spec_of([(16, True)])
    inbox = Inbox(spec)
    inbox.expect(np.zeros(16, np.float32))
    inbox.accept(0, np.full(16, 1e30, np.float32))
    assert inbox.distance.length == pytest.approx(4e30, rel=1e-6)
    inbox.expect(np.full(16, -3e38, np.float32))
    inbox.accept(0, np.full(16, 3e38, np.float32))
    assert inbox.distance.length == np.inf


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name, refused", [("bn/moving_variance", True), ("bn/moving_mean", False)])
def test_negative_variance_is_refused_and_leaves_the_shard_as_it_was(
    name: str, refused: bool, sparse: bool, raw: bool
) -> None:
    spec = WeightSpec.layout([("kernel", (30,), "float32", True), (name, (16,), "float32", False)])
    vector, base = np.abs(random_vector(spec.size, 1)), random_vector(spec.size, 2)
    inbox = Inbox(spec)
    inbox.expect(base, raw)
    for value in (0.0, -1e-6):
        vector[33] = value
        before = inbox.vector.copy()
        # The variable begins in the second shard of 32 elements.
        arguments = (32, vector[32:], np.arange(16)) if sparse else (32, vector[32:])
        if not refused or value >= 0.0:
            inbox.accept(*arguments)
            continue
        with pytest.raises(RejectedWeights, match="moving variance is -1e-06") as refusal:
            inbox.accept(*arguments)
        assert refusal.value.code == "negative-variance"
        np.testing.assert_array_equal(inbox.vector, before)
