"""The model's variables as one vector: copied, merged and adopted against plain numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from p2pdl.errors import ModelUnavailable
from p2pdl.merge import merge
from p2pdl.puller.inbox import Inbox
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
    peer = np.random.default_rng(2).normal(size=weights.spec.size).astype(np.float32)
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
