"""The model's variables as one vector: copied, merged and adopted against plain numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from p2pdl.errors import ModelUnavailable
from p2pdl.merge import merge, merge_difference
from p2pdl.puller.inbox import Inbox
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.training.weights import ModelWeights, exchanged, spec_of


def small_model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(5, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def bound(model: keras.Model) -> tuple[ModelWeights, Inbox]:
    inbox = Inbox(spec_of(model))
    return ModelWeights(model, inbox.vector), inbox


def vector_of(weights: ModelWeights) -> np.ndarray:
    vector = np.zeros(weights.spec.size, np.float32)
    weights.copy_to(vector)
    return vector


def test_the_vector_holds_every_float_weight_in_model_order_and_nothing_else():
    model = small_model()
    weights, _ = bound(model)
    vector = vector_of(weights)
    expected = np.zeros_like(vector)
    for place, variable in zip(weights.spec.variables, exchanged(model), strict=True):
        expected[place.span] = variable.numpy().ravel()
    assert vector.tobytes() == expected.tobytes()
    assert [v.shape for v in weights.spec.variables] == [tuple(w.shape) for w in model.weights]
    # Dropout's random state is an integer of the node's own.
    assert not any("seed" in v.name for v in weights.spec.variables)
    assert [v.name.rsplit("/")[-1] for v in weights.spec.variables if not v.trainable] == [
        "moving_mean",
        "moving_variance",
    ]


def test_copied_in_pieces_it_is_the_same_vector_and_no_piece_crosses_a_shard():
    model = keras.Sequential([keras.Input((700,)), keras.layers.Dense(600), keras.layers.Dense(3)])
    weights, _ = bound(model)
    vector, start = np.zeros(weights.spec.size, np.float32), 0
    for reached in weights.copy_in_pieces(vector):
        assert start < reached and start // SHARD_ELEMENTS == (reached - 1) // SHARD_ELEMENTS
        start = reached
    assert start == weights.spec.variables[-1].span.stop
    np.testing.assert_array_equal(vector, vector_of(weights))


def test_the_same_code_gives_the_same_spec_whatever_was_built_before():
    first = spec_of(small_model())
    keras.layers.Dense(2)
    second = spec_of(small_model(seed=9))
    assert first.digest == second.digest


def test_layers_of_one_kind_keep_distinct_names():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)])
    names = [variable.name for variable in spec_of(model).variables]
    assert len(set(names)) == 4 and names[2] == names[0] + "#2"


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_compiled_merge_is_the_numpy_merge(weight):
    model = small_model()
    weights, inbox = bound(model)
    rng = np.random.default_rng(1)
    base = vector_of(weights)
    peer = rng.normal(size=base.size).astype(np.float32)
    for span in weights.spec.state_spans:
        peer[span] = np.abs(peer[span])
    inbox.expect(base)
    inbox.accept(0, peer)
    progress = rng.normal(size=base.size).astype(np.float32) * 0.01
    for place, variable in zip(weights.spec.variables, exchanged(model), strict=True):
        variable.assign_add(np.abs(progress[place.span]).reshape(place.shape))
    own = vector_of(weights)
    weights.merge_difference(weight)
    merged = vector_of(weights)
    expected = merge(own, base, peer, weight, weights.spec.state_spans)
    for place in weights.spec.variables:
        np.testing.assert_allclose(merged[place.span], expected[place.span], rtol=1e-5, atol=1e-6)


def reference(weights: ModelWeights, own: np.ndarray, inbox: Inbox, weight: float) -> np.ndarray:
    """The numpy merge of what lies in the inbox; statistics that have not arrived stay as they are."""
    expected = merge_difference(own, inbox.vector, weight, weights.spec.state_spans)
    for place, has_arrived in zip(weights.spec.variables, inbox.arrived(), strict=True):
        if not place.trainable and not has_arrived:
            expected[place.span] = own[place.span]
    return expected


def assert_merged(weights: ModelWeights, expected: np.ndarray) -> None:
    merged = vector_of(weights)
    for place in weights.spec.variables:
        np.testing.assert_allclose(
            merged[place.span], expected[place.span], rtol=1e-5, atol=1e-6, err_msg=f"{place.name} {place.shape}"
        )


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_compiled_merge_leaves_statistics_alone_that_have_not_arrived(weight, monkeypatch):
    # Shards of 32 elements: the model has many, and parts of one variable arrive while others do not.
    monkeypatch.setattr("p2pdl.puller.inbox.SHARD_ELEMENTS", 32)
    model = small_model()
    weights, inbox = bound(model)
    rng = np.random.default_rng(3)
    statistics = [place for place in weights.spec.variables if not place.trainable]
    mean, variance = (place.span.start // 32 for place in statistics)
    assert mean != variance
    for missing in ({mean}, {variance}, {mean, variance, 0}, set()):
        own = vector_of(weights)
        base, peer = np.abs(rng.normal(size=(2, own.size))).astype(np.float32)
        inbox.expect(base)
        for number in set(range(-(-own.size // 32))) - missing:
            shard = peer[number * 32 : (number + 1) * 32]
            kept = np.flatnonzero(rng.random(shard.size) < 0.5)
            if number % 2 or number in (mean, variance):
                inbox.accept(number * 32, shard)
            else:
                inbox.accept(number * 32, shard[kept], kept)
        inbox.clear_missing()
        arrived = inbox.arrived()
        expected = reference(weights, own, inbox, weight)
        weights.merge_difference(weight, arrived)
        assert_merged(weights, expected)
        for place, has_arrived in zip(weights.spec.variables, arrived, strict=True):
            if not place.trainable and not has_arrived:
                assert vector_of(weights)[place.span].tobytes() == own[place.span].tobytes()


def test_the_compiled_merge_takes_what_has_arrived_of_a_variable_that_lies_in_several_shards():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((600,)), keras.layers.Dense(1000), keras.layers.BatchNormalization()])
    weights, inbox = bound(model)
    kernel = weights.spec.variables[0]
    assert kernel.size > 2 * SHARD_ELEMENTS
    own = vector_of(weights)
    peer = np.random.default_rng(4).normal(size=own.size).astype(np.float32)
    inbox.expect(own)
    inbox.accept(SHARD_ELEMENTS, peer[SHARD_ELEMENTS : 2 * SHARD_ELEMENTS])
    inbox.clear_missing()
    weights.merge_difference(0.5, inbox.arrived())
    expected = own.copy()
    part = slice(SHARD_ELEMENTS, 2 * SHARD_ELEMENTS)
    expected[part] = own[part] + np.float32(0.5) * (peer[part] - own[part])
    assert_merged(weights, expected)


def test_a_merged_variance_stays_within_the_two_it_comes_from():
    model = small_model()
    weights, inbox = bound(model)
    variance = next(place for place in weights.spec.variables if place.name.endswith("moving_variance"))
    base = np.zeros(weights.spec.size, np.float32)
    base[variance.span] = 5.0  # when the pull began; by now the node's own is 1, the peer's 0.1
    peer = base.copy()
    peer[variance.span] = 0.1
    inbox.expect(base)
    inbox.accept(0, peer)
    weights.merge_difference(0.9)
    merged = vector_of(weights)[variance.span]
    np.testing.assert_allclose(merged, 0.1 * 1.0 + 0.9 * 0.1, rtol=1e-6)


def test_adopted_weights_are_the_peers_to_the_last_bit_and_not_its_memory():
    model = small_model()
    weights, inbox = bound(model)
    peer = np.abs(np.random.default_rng(2).normal(size=weights.spec.size)).astype(np.float32)
    inbox.expect(None)
    inbox.accept(0, peer)
    weights.adopt()
    inbox.vector[:] = np.nan
    adopted = vector_of(weights)
    for place in weights.spec.variables:
        assert adopted[place.span].tobytes() == peer[place.span].tobytes()


def test_assigned_weights_are_a_copy():
    model = small_model()
    weights, _ = bound(model)
    vector = np.full(weights.spec.size, 0.5, np.float32)
    weights.assign(vector)
    vector[:] = 9.0
    assert set(np.unique(np.concatenate([v.numpy().ravel() for v in exchanged(model)]))) == {np.float32(0.5)}


def test_warming_up_changes_no_weight():
    model = small_model()
    weights, _ = bound(model)
    before = vector_of(weights).tobytes()
    weights.warm_up()
    assert vector_of(weights).tobytes() == before


def test_half_precision_variables_travel_as_float32_and_come_back_rounded():
    keras.config.set_dtype_policy("float16")
    try:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    finally:
        keras.config.set_dtype_policy("float32")
    weights, inbox = bound(model)
    assert {variable.dtype for variable in weights.spec.variables} == {"float16"}
    peer = np.full(weights.spec.size, 0.1, np.float32)
    inbox.expect(None)
    inbox.accept(0, peer)
    weights.adopt()
    assert vector_of(weights)[0] == np.float32(np.float16(0.1))


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ModelUnavailable, match="not built"):
        spec_of(keras.Sequential([keras.layers.Dense(3)]))
