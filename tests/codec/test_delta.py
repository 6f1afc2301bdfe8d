"""Both ends of a delta: the copies stay equal, errors are fed back, and payloads are as short as they should be."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.codec.delta import DeltaSettings, ReceivedCopy, SentCopy, Update, max_nbytes
from p2pdl.errors import RejectedWeights
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec, shard_digest
from p2pdl.types import Float32Vector

NAMES = ["mean-threshold", "mean-threshold:int8", "top-k:0.02", "top-k:0.05:int8", "top-k:1", "top-k:1:int8"]
EVERY_NAME = pytest.mark.parametrize("name", NAMES)
SMALL = WeightSpec.layout(
    [
        ("kernel", (30, 30), "float32", True),
        ("mean", (7,), "float32", False),
        ("variance", (7,), "float32", False),
        ("bias", (5,), "float32", True),
        ("last", (3,), "float32", False),
    ]
)
LARGE = WeightSpec.layout(
    [
        ("first", (1000,), "float32", True),
        ("mean", (33,), "float32", False),
        ("wide", (SHARD_ELEMENTS + 5000,), "float32", True),
        ("variance", (40,), "float32", False),
        ("last", (300,), "float32", True),
    ]
)


def shard_size(spec: WeightSpec, number: int) -> int:
    return min(SHARD_ELEMENTS, spec.size - number * SHARD_ELEMENTS)


def statistics_in(spec: WeightSpec, number: int) -> np.ndarray:
    """Indices in the shard."""
    places = np.concatenate([np.empty(0, int), *(np.arange(span.start, span.stop) for span in spec.state_spans)])
    places -= number * SHARD_ELEMENTS
    return places[(places >= 0) & (places < SHARD_ELEMENTS)]


def weights(spec: WeightSpec, seed: int, scale: float = 1.0) -> Float32Vector:
    rng = np.random.default_rng(seed)
    vector = np.zeros(spec.size, np.float32)
    for variable in spec.variables:
        vector[variable.span] = scale * rng.standard_normal(variable.size)
    return vector


class Link:
    """A server's copy and a puller's."""

    def __init__(self, name: str, spec: WeightSpec) -> None:
        self.spec, self.settings = spec, DeltaSettings.parse(name)
        self.shards = -(-spec.size // SHARD_ELEMENTS)
        self.nbytes = 0
        self.restart()
        self.forget()

    def restart(self) -> None:
        spans = [variable.span for variable in self.spec.variables]
        self.sent = SentCopy(spans, self.spec.state_spans, self.spec.size, self.settings)

    def forget(self) -> None:
        self.received = ReceivedCopy(self.spec.state_spans, self.spec.size, self.settings)

    def encode(self, number: int, vector: Float32Vector, version: object) -> tuple[np.ndarray, int]:
        payload, digest = self.sent.encode(number, vector, version, self.received.digest(number), 0)
        size = shard_size(self.spec, number)
        most = max_nbytes(self.settings, size, statistics_in(self.spec, number).size)
        assert payload.size <= most <= 4 * size + 64
        return payload, digest

    def pull(self, vector: Float32Vector, version: object) -> list[Update]:
        updates = []
        self.nbytes = 0
        for number in range(self.shards):
            payload, digest = self.encode(number, vector, version)
            self.nbytes += payload.size
            updates.append(self.received.decode(number, payload.tobytes(), digest))
            self.check(number, updates[-1], vector, digest)
        return updates

    def check(self, number: int, update: Update, vector: Float32Vector, digest: int) -> None:
        start = number * SHARD_ELEMENTS
        copy = self.received.vector[start : start + SHARD_ELEMENTS]
        assert self.received.digest(number) == digest == shard_digest(copy)
        indices = np.arange(copy.size) if update.indices is None else update.indices
        assert (np.diff(indices) > 0).all()
        assert update.values.dtype == np.float32
        np.testing.assert_array_equal(update.values, copy[indices])
        statistics = statistics_in(self.spec, number)
        np.testing.assert_array_equal(copy[statistics], vector[start + statistics])
        np.testing.assert_array_equal(indices[np.searchsorted(indices, statistics)], statistics)
        if self.settings.values == "float32":
            np.testing.assert_array_equal(update.values, vector[start + indices])


@EVERY_NAME
@settings(deadline=None, max_examples=40)
@given(
    events=st.lists(
        st.sampled_from(["arrives", "lost", "twice", "damaged", "restart", "forget", "step", "jump"]), max_size=25
    ),
    seed=st.integers(0, 99),
)
def test_decode_after_any_losses_and_restarts_copies_are_equal(name: str, events: list[str], seed: int) -> None:
    link, vector, version = Link(name, SMALL), weights(SMALL, seed), 0
    for event in [*events, "arrives"]:
        if event == "restart":
            link.restart()
        elif event == "forget":
            link.forget()
        elif event in ("step", "jump"):
            version += 1
            vector = vector + weights(SMALL, seed + version, 0.01 if event == "step" else 1e4)
        elif event == "lost":
            link.encode(0, vector, version)
        elif event == "damaged":
            payload, digest = link.encode(0, vector, version)
            with pytest.raises(RejectedWeights):
                link.received.decode(0, payload, digest ^ 1)
            assert link.received.digest(0) == 0
        else:
            link.pull(vector, version)
            if event == "twice":
                payload, digest = link.encode(0, vector, version)
                link.received.decode(0, payload, digest)
                try:
                    link.received.decode(0, payload, digest)
                except RejectedWeights as refusal:
                    assert refusal.code == "digest"


@EVERY_NAME
def test_pull_long_run_never_falls_back_to_a_whole_shard(name: str) -> None:
    link, vector = Link(name, SMALL), weights(SMALL, 0)
    link.pull(vector, 0)
    for version in range(1, 400):
        vector = vector + weights(SMALL, version, 0.01)
        payload, digest = link.encode(0, vector, version)
        assert payload[0] == 0
        link.received.decode(0, payload, digest)


@pytest.mark.parametrize("name", ["mean-threshold:int8", "top-k:0.02", "top-k:1"])
def test_pull_several_shards_with_statistics_arrive(name: str) -> None:
    link, vector = Link(name, LARGE), weights(LARGE, 0)
    for version in range(4):
        link.pull(vector, version)
        vector = vector + weights(LARGE, version + 1, 0.01)


@pytest.mark.parametrize("new_version", [False, True])
@EVERY_NAME
def test_pull_constant_weights_copy_converges(name: str, new_version: bool) -> None:
    link, vector = Link(name, SMALL), weights(SMALL, 1)
    link.pull(weights(SMALL, 0), -1)
    density = link.settings.density
    pulls = ceil(1 / density) + 1 if density else 25
    if link.settings.values == "int8":
        pulls *= 4
    for number in range(pulls):
        link.pull(vector, number if new_version else 0)
    if link.settings.values == "float32":
        np.testing.assert_array_equal(link.received.vector, vector)
        link.pull(vector, pulls)
        assert link.nbytes == 8 + 4 * statistics_in(SMALL, 0).size
    else:
        np.testing.assert_allclose(link.received.vector, vector, rtol=3e-7, atol=1e-9)


@pytest.mark.parametrize("values", ["", ":int8"])
@pytest.mark.parametrize("density", [0.01, 0.3])
def test_pull_top_k_is_a_contraction_shard_by_shard(density: float, values: str) -> None:
    link = Link(f"top-k:{density}{values}", LARGE)
    vector, target = weights(LARGE, 0), weights(LARGE, 1)
    link.pull(vector, 0)
    for version in range(1, 3):
        before = link.received.vector.astype(np.float64)
        link.pull(target, version)
        for number in range(link.shards):
            shard = slice(number * SHARD_ELEMENTS, (number + 1) * SHARD_ELEMENTS)
            old, new = (np.square(target[shard] - copy[shard]).sum() for copy in (before, link.received.vector))
            # Rounding to 1/254 of the greatest difference of a block leaves at most 1/254^2 of what was sent, or so.
            assert new <= (1 - density) * old * (1 + 1e-6) + (old / 254**2 * 10 if values else 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("second_is_whole", [False, True])
def test_encode_mean_threshold_equals_numpy_layer_by_layer(order: tuple[int, int], second_is_whole: bool) -> None:
    link, vector, target = Link("mean-threshold", LARGE), weights(LARGE, 0), weights(LARGE, 1)
    link.pull(vector, 0)
    if second_is_whole:
        with pytest.raises(RejectedWeights):
            link.received.decode(1, link.encode(1, vector, 1)[0], 0)
    difference = np.abs(target.astype(np.float64) - vector)
    expected = np.zeros(LARGE.size, bool)
    borderline = np.zeros(LARGE.size, bool)
    for variable in LARGE.variables:
        mean = difference[variable.span].mean()
        expected[variable.span] = difference[variable.span] >= mean if variable.trainable else True
        borderline[variable.span] = variable.trainable and np.isclose(difference[variable.span], mean, rtol=3e-5)
    for number in order:
        payload, digest = link.encode(number, target, 2)
        update = link.received.decode(number, payload, digest)
        if number == 1 and second_is_whole:
            assert update.indices is None
            continue
        start = number * SHARD_ELEMENTS
        sent = np.zeros(shard_size(LARGE, number), bool)
        assert update.indices is not None
        sent[update.indices] = True
        shard = slice(start, start + sent.size)
        clear = ~borderline[shard]
        np.testing.assert_array_equal(sent[clear], expected[shard][clear])
        assert 0.3 < sent.mean() < 0.5


@EVERY_NAME
def test_pull_weights_at_the_ends_of_float32_stay_finite_and_converge(name: str) -> None:
    greatest = float(np.finfo(np.float32).max)
    link, vector = Link(name, SMALL), np.zeros(SMALL.size, np.float32)
    ends = np.where(np.arange(900) % 3 == 0, -greatest, greatest).astype(np.float32)
    for version in range(4):
        vector[:900] = ends if version % 2 else -ends
        link.pull(vector, version)
        assert np.isfinite(link.received.vector).all()
    for version in range(4, 4 + (100 if "0.0" in name else 8)):
        link.pull(vector, version)
    np.testing.assert_allclose(link.received.vector, vector, rtol=1e-4, atol=1e-6 * greatest)


@EVERY_NAME
def test_pull_tiny_weights_arrive_or_count_as_zero(name: str) -> None:
    link, vector = Link(name, SMALL), weights(SMALL, 0, 1e-38)
    for version in range(60):
        link.pull(vector, version)
    np.testing.assert_allclose(link.received.vector, vector, rtol=0, atol=2.0**-80)
    if link.settings.values == "int8":
        # Some machines compute with such numbers as if they were zero, so their sums would not be the same bits.
        assert not link.received.vector[SMALL.variables[0].span].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["mean-threshold", "top-k:0.05:int8"])
def test_encode_weights_not_finite_are_refused_and_change_nothing(name: str, value: float) -> None:
    link, vector = Link(name, LARGE), weights(LARGE, 0)
    link.pull(vector, 0)
    broken = vector.copy()
    broken[SHARD_ELEMENTS + 4000] = value
    payload, digest = link.encode(0, broken, 1)
    link.received.decode(0, payload, digest)
    with pytest.raises(ValueError, match="not finite"):
        link.encode(1, broken, 1)
    payload, digest = link.encode(1, weights(LARGE, 1), 2)
    assert payload[0] == 0
    link.received.decode(1, payload, digest)


@EVERY_NAME
def test_encode_same_calls_give_the_same_bytes(name: str) -> None:
    first, second = Link(name, SMALL), Link(name, SMALL)
    for version in range(5):
        vector = weights(SMALL, version)
        payload, digest = first.encode(0, vector, version)
        again, same = second.encode(0, vector, version)
        assert (payload.tobytes(), digest) == (again.tobytes(), same)
        for link in (first, second):
            link.received.decode(0, payload, digest)


def test_decode_difference_without_a_copy_is_refused() -> None:
    link, vector = Link("mean-threshold", SMALL), weights(SMALL, 0)
    link.pull(vector, 0)
    payload, digest = link.encode(0, weights(SMALL, 1), 1)
    link.forget()
    with pytest.raises(RejectedWeights) as caught:
        link.received.decode(0, payload, digest)
    assert caught.value.code == "digest"
    assert not link.received.vector.any()


def test_update_of_every_entry_cannot_be_written_to() -> None:
    link = Link("mean-threshold", SMALL)
    (update,) = link.pull(weights(SMALL, 0), 0)
    assert update.indices is None
    assert not update.values.flags.writeable


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        ("mean-threshold", 4.0, (1.6, 1.9)),
        ("mean-threshold:int8", 1.016, (0.5, 0.6)),
        ("top-k:0.01", 4.0, (0.050, 0.052)),
        ("top-k:0.01:int8", 1.016, (0.0205, 0.0215)),
        ("top-k:1:int8", 1.016, (1.01, 1.017)),
    ],
)
def test_encode_bytes_for_each_element(name: str, first: float, later: tuple[float, float]) -> None:
    spec = WeightSpec.layout([("kernel", (SHARD_ELEMENTS,), "float32", True)])
    link, vector = Link(name, spec), weights(spec, 0)
    link.pull(vector, 0)
    assert link.nbytes == pytest.approx(first * spec.size, rel=1e-3)
    for version in range(1, 3):
        vector = vector + weights(spec, version, 0.01)
        link.pull(vector, version)
    assert later[0] < link.nbytes / spec.size < later[1]
    assert link.sent.nbytes < 2.1 * spec.nbytes


@pytest.mark.parametrize("always", [[slice(5, 3)], [slice(4, 9), slice(0, 2)], [slice(0, 33)], [slice(-1, 2)]])
def test_create_statistics_out_of_place_are_refused(always: list[slice]) -> None:
    with pytest.raises(ValueError, match="in order and inside the 32 elements"):
        ReceivedCopy(always, 32, DeltaSettings.parse("mean-threshold"))
