"""The built-in models: what goes in, what comes out, how large; and models of the user's own."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from p2pdl.errors import ModelUnavailable
from p2pdl.training.losses import ends_in_probabilities, resolve
from p2pdl.training.models.registry import MODELS, build

SMALL = 0.1


def millions(model: keras.Model) -> float:
    return model.count_params() / 1e6


@pytest.mark.parametrize("input_shape", [(28, 28, 1), (32, 32, 3), (8, 8, 1), (8, 8), (5, 9, 2), (1, 1, 1)])
@pytest.mark.parametrize("name", MODELS)
def test_model_of_images_ends_in_one_logit_for_each_class(name, input_shape):
    model = build(name, input_shape=input_shape, classes=7, width=SMALL)
    assert model.built
    images = np.random.default_rng(0).random((3, *input_shape), dtype=np.float32)
    outputs = np.asarray(model(images, training=False))
    assert outputs.shape == (3, 7)
    assert np.isfinite(outputs).all()
    assert not ends_in_probabilities(model)


def test_mlp_takes_flat_features_and_has_three_layers_of_512():
    model = build("mlp", input_shape=(784,), classes=10)
    assert [tuple(v.shape) for v in model.trainable_variables if len(v.shape) == 2] == [
        (784, 512),
        (512, 512),
        (512, 512),
        (512, 10),
    ]


def test_vgg19_has_the_known_size():
    full = build("vgg19", input_shape=(32, 32, 3), classes=10)
    assert millions(full) == pytest.approx(20.05, abs=0.005)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in full.layers) == 16
    quarter = build("vgg19", input_shape=(32, 32, 3), classes=10, width=0.25)
    assert millions(quarter) == pytest.approx(1.26, abs=0.005)


@pytest.mark.parametrize("name", ["cnn", "vgg19"])
def test_model_of_images_refuses_flat_features(name):
    with pytest.raises(ModelUnavailable, match=r"takes images.*\(64,\)"):
        build(name, input_shape=(64,), classes=10, width=SMALL)


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_makes_the_same_weights_and_names(name):
    def built(seed):
        return build(name, input_shape=(8, 8, 1), classes=3, width=SMALL, seed=seed)

    first, again, other = built(1), built(1), built(2)
    assert [v.path for v in first.variables] == [v.path for v in again.variables]
    assert len({v.path for v in first.variables}) == len(first.variables)
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((a != b).any() for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


def test_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(ModelUnavailable, match="no model 'vgg16'; the nearest name is vgg19") as caught:
        build("vgg16", input_shape=(8, 8, 1), classes=3)
    assert "mlp, cnn, vgg19" in caught.value.remedy


def test_builtin_model_refuses_arguments():
    with pytest.raises(ModelUnavailable, match="takes no arguments, found units"):
        build("mlp", input_shape=(8,), classes=3, arguments={"units": 3})


# The user's own models


def test_user_function_gets_its_arguments_and_what_it_names(user_module, tmp_path):
    user_module(
        "nets_a",
        """
        import keras

        def net(units, classes, *, input_shape=None):
            return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(units), keras.layers.Dense(classes)])
        """,
    )
    model = build("nets_a:net", input_shape=(6,), classes=4, arguments={"units": 5}, folder=tmp_path)
    assert [tuple(v.shape) for v in model.variables] == [(6, 5), (5,), (5, 4), (4,)]
    assert build(
        "nets_a:net", input_shape=(6,), classes=4, arguments={"units": 5, "classes": 9}, folder=tmp_path
    ).output_shape == (None, 9)


def test_user_function_without_parameters_and_unbuilt_model_is_built(user_module, tmp_path, monkeypatch):
    user_module(
        "nets_b",
        """
        import keras

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(3)

            def call(self, inputs):
                return self.dense(inputs)

        def net(**others):
            assert not others
            return Net()
        """,
    )
    monkeypatch.chdir(tmp_path)
    model = build("nets_b:net", input_shape=(6,), classes=3)
    assert model.built
    assert [tuple(v.shape) for v in model.variables] == [(6, 3), (3,)]


USER_NETS = """
import keras

def line_of_the_error(x):
    raise KeyError(x)  # here

def fails():
    return line_of_the_error("mistake")

def leaves():
    raise SystemExit("no data")

def returns_layer():
    return keras.layers.Dense(3)

def returns_nothing(): ...

def needs(units):
    return keras.Sequential([keras.layers.Dense(units)])

def fixed():
    return keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])

def frozen():
    return keras.Sequential([keras.layers.Dense(3, trainable=False)])

def unpooled():
    return keras.Sequential([keras.layers.Reshape((2, 3)), keras.layers.Dense(3)])

number = 5
"""


@pytest.mark.parametrize(
    ("reference", "arguments", "message"),
    [
        ("nets_c:fails", {}, r"nets_c:fails failed: KeyError: 'mistake' \(.*nets_c\.py:5\)"),
        ("nets_c:leaves", {}, "SystemExit: no data"),
        ("nets_c:returns_layer", {}, "returned a Dense, which is no keras.Model"),
        ("nets_c:returns_nothing", {}, r"returned nothing \(None\)"),
        ("nets_c:needs", {}, "missing a required argument: 'units'"),
        ("nets_c:needs", {"units": 3, "unit": 4}, "unexpected keyword argument 'unit'"),
        ("nets_c:needs", {"units": 2}, r"makes an output of shape \(1, 2\) of one sample.*3 classes"),
        ("nets_c:unpooled", {}, r"makes an output of shape \(1, 2, 3\)"),
        ("nets_c:fixed", {}, r"does not take samples of shape \(6,\)"),
        ("nets_c:frozen", {}, "no trainable variables"),
        ("nets_c:neds", {"units": 3}, "has no neds; the nearest name in it is needs"),
        ("nets_c:number", {}, "is a int, not a function"),
        ("nets_z:net", {}, "there is no module nets_z in "),
        (":net", {}, "not of the form module:function"),
    ],
)
def test_user_function_that_makes_no_model_is_reported(user_module, tmp_path, reference, arguments, message):
    user_module("nets_c", USER_NETS)
    with pytest.raises(ModelUnavailable, match=message) as caught:
        build(reference, input_shape=(6,), classes=3, arguments=arguments, folder=tmp_path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name\n", r"No module named 'nothing_of_that_name' \(.*nets_d\.py:1\)"),
        ("x = 1\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*nets_d\.py:2\)"),
        ("\n\ndef net(:\n", r"SyntaxError: .*nets_d\.py:3"),
    ],
)
def test_user_module_that_fails_on_import_is_reported_with_its_line(user_module, tmp_path, text, message):
    user_module("nets_d", text)
    with pytest.raises(ModelUnavailable, match=f"importing nets_d failed: .*{message}"):
        build("nets_d:net", input_shape=(6,), classes=3, folder=tmp_path)


# Losses


def ending_in(*layers) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), *layers])


def functional_softmax() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.ops.softmax(keras.layers.Dense(3)(inputs)))


@pytest.mark.parametrize(
    ("model", "probabilities"),
    [
        (ending_in(), False),
        (ending_in(keras.layers.Softmax()), True),
        (ending_in(keras.layers.Activation("softmax")), True),
        (ending_in(keras.layers.Dense(3, activation="softmax")), True),
        (ending_in(keras.layers.Dense(1, activation="sigmoid")), True),
        (ending_in(keras.layers.Dense(3, activation="relu")), False),
        (keras.Sequential([keras.Input((4,)), ending_in(keras.layers.Softmax())]), True),
        (functional_softmax(), True),
    ],
)
def test_auto_loss_takes_logits_unless_the_model_ends_in_probabilities(model, probabilities):
    loss = resolve("auto", model)
    labels, outputs = np.array([0, 2]), np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], np.float32)
    assert ends_in_probabilities(model) == probabilities
    chances = outputs if probabilities else np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert float(loss(labels, outputs)) == pytest.approx(-np.log(chances[[0, 1], labels]).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "SparseCategoricalCrossentropy", "auto"])
def test_named_loss_takes_logits_too(name):
    assert resolve(name, ending_in()).get_config()["from_logits"] is True


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mse", keras.losses.MeanSquaredError),
        ("kl_divergence", keras.losses.KLDivergence),
        ("Huber", keras.losses.Huber),
    ],
)
def test_loss_by_any_keras_name_is_its_class(name, kind):
    assert type(resolve(name, ending_in())) is kind


def test_unknown_loss_is_answered_with_the_nearest():
    with pytest.raises(ModelUnavailable, match="no loss 'mean_square_error'.*MeanSquaredError"):
        resolve("mean_square_error", ending_in())
