"""Data sources: what they give, and what they say of files and functions that give none."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from p2pdl.errors import DataUnavailable
from p2pdl.training.data.dataset import scaled
from p2pdl.training.data.registry import SOURCES, load

RNG = np.random.default_rng(4)


def arrays(**changes):
    """Small images of uint8 in three classes; an array replaced by None is left out."""
    good = {
        "x_train": RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8),
        "y_test": np.array([[0], [1], [2]]),
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def test_digits_are_split_the_same_way_every_time(tmp_path):
    first, again = load("digits", tmp_path), load("digits", tmp_path)
    assert first.x_train.shape == (1433, 8, 8, 1)
    assert first.x_test.shape == (364, 8, 8, 1)
    assert (first.input_shape, first.classes, first.name) == ((8, 8, 1), 10, "digits")
    assert (first.x_train.dtype, first.y_train.dtype) == (np.float32, np.int32)
    assert (first.x_train.min(), first.x_train.max()) == (0, 1)
    np.testing.assert_array_equal(first.x_test, again.x_test)
    for labels in (first.y_train, first.y_test):
        shares = np.bincount(labels, minlength=10) / len(labels)
        assert np.abs(shares - 0.1).max() < 0.005


@pytest.mark.parametrize("is_where_it_was", [True, False])
def test_digits_are_scikit_learns_wherever_it_keeps_them(is_where_it_was, monkeypatch, tmp_path):
    if not is_where_it_was:
        monkeypatch.setattr("p2pdl.training.data.digits.FILE", Path("elsewhere"))
    dataset = load("digits", tmp_path)
    theirs = sklearn.datasets.load_digits()
    test = np.zeros(len(theirs.target), bool)
    for digit in range(10):
        test[np.flatnonzero(theirs.target == digit)[::5]] = True
    np.testing.assert_array_equal(16 * dataset.x_train[..., 0], theirs.images[~test])
    np.testing.assert_array_equal(16 * dataset.x_test[..., 0], theirs.images[test])
    np.testing.assert_array_equal(dataset.y_train, theirs.target[~test])
    np.testing.assert_array_equal(dataset.y_test, theirs.target[test])


def test_npz_of_uint8_images_stays_uint8_and_gets_a_channel_axis(tmp_path):
    stored = arrays()
    np.savez_compressed(tmp_path / "d.npz", **stored, note=np.array(["x"], dtype=object))
    dataset = load("npz:d.npz", tmp_path)
    assert (dataset.input_shape, dataset.classes) == ((4, 4, 1), 3)
    assert dataset.x_train.dtype == np.uint8
    np.testing.assert_array_equal(dataset.x_train[..., 0], stored["x_train"])
    np.testing.assert_array_equal(dataset.y_test, [0, 1, 2])
    assert dataset.y_test.dtype == np.int32
    np.testing.assert_allclose(scaled(dataset.x_train)[..., 0], stored["x_train"] / 255, rtol=1e-6)
    assert scaled(dataset.x_train).dtype == np.float32


@pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 4, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16, np.bool_])
def test_npz_of_other_numbers_becomes_float32_in_its_own_shape(tmp_path, shape, dtype):
    x_train, x_test = RNG.integers(0, 9, (6, *shape)).astype(dtype), np.ones((3, *shape), dtype)
    np.savez(tmp_path / "d.npz", **arrays(x_train=x_train, x_test=x_test))
    dataset = load(f"npz:{tmp_path / 'd.npz'}", tmp_path / "elsewhere")
    assert dataset.input_shape == shape
    assert dataset.x_train.dtype == np.float32
    np.testing.assert_array_equal(dataset.x_train, x_train.astype(np.float32))
    assert scaled(dataset.x_train) is dataset.x_train


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_test": None}, "has no x_test, y_test; it has x_train, y_train"),
        ({"y_train": np.arange(5)}, "x_train has 6 samples, but y_train has 5 labels"),
        ({"y_test": np.array([0, -1, 2])}, "y_test contains the label -1"),
        ({"y_test": np.array([0, 1.5, 2])}, "y_test contains the label 1.5"),
        ({"y_test": np.array([0, np.nan, 2])}, r"y_test\[1\] contains NaN"),
        ({"y_train": np.eye(6)}, r"y_train has shape \(6, 6\), not \(samples,\)"),
        ({"y_train": np.array(list("abcdef"))}, "y_train has dtype <U1"),
        ({"y_train": np.zeros(6), "y_test": np.zeros(3)}, "every label is 0"),
        ({"x_train": np.array([0, np.inf, 0, 0, 0, 0.0])[:, None]}, r"x_train\[1\] contains NaN"),
        ({"x_train": np.array([0, 0, 0, 1e300, 0, 0.0])[:, None]}, r"x_train\[3\] contains NaN, or"),
        ({"x_train": np.zeros(6)}, r"x_train has shape \(6,\)"),
        ({"x_train": np.zeros((0, 4)), "y_train": np.zeros(0)}, r"x_train has shape \(0, 4\)"),
        ({"x_test": np.zeros((3, 4, 4))}, r"x_train are uint8 \(4, 4, 1\), those of x_test float32 \(4, 4\)"),
        ({"x_train": np.zeros((6, 4), np.complex64)}, "x_train has dtype complex64"),
        ({"x_train": np.array([{}] * 6)}, "cannot be read.*Object arrays cannot be loaded"),
    ],
)
def test_npz_with_unusable_arrays_is_reported_by_file_and_array(tmp_path, changes, message):
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    with pytest.raises(DataUnavailable, match=message) as caught:
        load("npz:bad.npz", tmp_path)
    assert str(tmp_path / "bad.npz") in caught.value.message
    assert caught.value.remedy


def test_npz_that_is_missing_is_reported_with_what_there_is(tmp_path):
    np.savez(tmp_path / "good.npz", **arrays())
    with pytest.raises(DataUnavailable, match="there is no file") as caught:
        load("npz:gud.npz", tmp_path)
    assert "good.npz" in caught.value.remedy


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "array", "damaged"])
def test_npz_that_is_none_is_reported(tmp_path, kind):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    middle = len(whole) // 4
    contents = {
        "text": b"x_train: 1",
        "empty": b"",
        "truncated": whole[:-30],
        "damaged": whole[:middle] + bytes(40) + whole[middle + 40 :],
    }
    if kind == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(contents[kind])
    with pytest.raises(DataUnavailable, match="cannot be read as an .npz archive"):
        load("npz:d.npz", tmp_path)


# Keras' loaders


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"digits"}))
def test_keras_source_is_kerass_own(tmp_path, monkeypatch, name):
    data = arrays()
    loader = importlib.import_module(f"keras.datasets.{name}")
    monkeypatch.setattr(
        loader,
        "load_data",
        lambda: ((data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])),
    )
    dataset = load(name, tmp_path)
    assert (dataset.name, dataset.input_shape, dataset.classes) == (name, (4, 4, 1), 3)


def test_keras_source_without_network_is_reported_with_a_way_out(tmp_path, monkeypatch):
    def offline():
        raise Exception("URL fetch failure on https://example.org/mnist.npz: None -- no route")

    monkeypatch.setattr(importlib.import_module("keras.datasets.mnist"), "load_data", offline)
    with pytest.raises(DataUnavailable, match="mnist is not on this machine.*URL fetch failure") as caught:
        load("mnist", tmp_path)
    assert "npz:PATH" in caught.value.remedy and "digits" in caught.value.remedy


# The user's own functions

USER_DATA = """
import numpy as np

x, y = np.arange(12.0).reshape(6, 2), [0, 1, 0, 1, 0, 1]

def pairs():
    return (x, y), (x[:2], y[:2])

def mapping():
    return dict(x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])

def ragged():
    return ([[1, 2], [3]], [0, 1]), (x, y)

def three():
    return x, y, 3

def fails():
    return open("no such file")
"""


@pytest.mark.parametrize("function", ["pairs", "mapping"])
def test_user_function_gives_data(user_module, tmp_path, function):
    user_module("data_a", USER_DATA)
    dataset = load(f"data_a:{function}", tmp_path)
    np.testing.assert_array_equal(dataset.x_train, np.arange(12).reshape(6, 2))
    assert (dataset.x_test.shape, dataset.classes, dataset.input_shape) == ((2, 2), 2, (2,))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("ragged", "x_train is no array of numbers"),
        ("three", r"returned a tuple that is not \(\(x_train, y_train\), \(x_test, y_test\)\)"),
        ("fails", r"data_b:fails failed: FileNotFoundError: .*data_b\.py:19\)"),
        ("pears", "the nearest name in it is pairs"),
    ],
)
def test_user_function_that_gives_none_is_reported(user_module, tmp_path, function, message):
    user_module("data_b", USER_DATA)
    with pytest.raises(DataUnavailable, match=message):
        load(f"data_b:{function}", tmp_path)


def test_unknown_source_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(DataUnavailable, match="no data source 'cifar'; the nearest name is cifar10") as caught:
        load("cifar", tmp_path)
    assert "npz:PATH" in caught.value.remedy
