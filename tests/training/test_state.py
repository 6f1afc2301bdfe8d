"""Captured and restored: a run that was interrupted ends with the same bits as one that was not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.errors import CheckpointError, CheckpointMismatch
from p2pdl.training.mean_threshold import MeanThreshold
from p2pdl.training.state import capture, restore
from p2pdl.training.step import Step, compile_step
from tests.checkpoint.samples import assert_same
from tests.processes import ROOT

BEFORE, AFTER = 3, 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Flatten(),
            layers.Dense(24, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(24, activation="relu"),
            layers.GaussianNoise(0.1),
            layers.Dropout(0.2),
            layers.Dense(4),
        ]
    )


def convolutional() -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((6, 6, 1))
    outputs = layers.RandomFlip("horizontal")(inputs)
    outputs = layers.Conv2D(5, 3, use_bias=False)(outputs)
    outputs = layers.BatchNormalization()(outputs)
    outputs = layers.Conv2D(5, 3)(layers.ReLU()(outputs))
    outputs = layers.BatchNormalization(dtype="float16")(outputs)
    return keras.Model(inputs, layers.Dense(4, name="head_1")(layers.Flatten()(outputs)))


def threshold(inner: keras.optimizers.Optimizer, rule: str = "magnitude") -> MeanThreshold:
    return MeanThreshold(inner, rule=rule, error_feedback=True)


def decaying() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True), momentum=0.9)


OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "plain": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "schedule": decaying,
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "average": lambda: keras.optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=5),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "muon": lambda: keras.optimizers.Muon(0.01),
    "threshold": lambda: threshold(keras.optimizers.SGD(0.05, momentum=0.9)),
    "threshold signed": lambda: threshold(keras.optimizers.Adam(0.01), "signed"),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        threshold(keras.optimizers.SGD(0.05, momentum=0.9)), initial_scale=2.0**10, dynamic_growth_steps=2
    ),
}


class Run:
    """A model with its optimizer and its compiled step; what it does with batch `n` depends on nothing else."""

    def __init__(self, make_model: Callable[[], keras.Model], optimizer: str, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        self.model = make_model()
        self.optimizer = OPTIMIZERS[optimizer]()
        self._step: Step = compile_step(self.model, self.optimizer, LOSS)

    def train(self, first: int, steps: int) -> list[float]:
        values = []
        for number in range(first, first + steps):
            rng = np.random.default_rng(number)
            inputs = tf.constant(rng.standard_normal((16, 6, 6, 1), np.float32))
            values.append(float(self._step(inputs, tf.constant(rng.integers(0, 4, 16)))))
        return values

    def capture(self) -> dict[str, np.ndarray]:
        return capture(self.model, self.optimizer)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        restore(self.model, self.optimizer, arrays)


def assert_goes_on_to_the_bit(make_model: Callable[[], keras.Model], optimizer: str) -> None:
    straight = Run(make_model, optimizer, seed=1)
    straight.train(0, BEFORE)
    middle = straight.capture()
    values = straight.train(BEFORE, AFTER)
    resumed = Run(make_model, optimizer, seed=2)
    resumed.restore(middle)
    assert_same(resumed.capture(), middle)
    assert resumed.train(BEFORE, AFTER) == values
    assert_same(resumed.capture(), straight.capture())


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"plain"}))
def test_restore_mlp_with_dropout_goes_on_to_the_bit(optimizer: str) -> None:
    assert_goes_on_to_the_bit(mlp, optimizer)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "threshold"])
def test_restore_convolutions_with_statistics_goes_on_to_the_bit(optimizer: str) -> None:
    assert_goes_on_to_the_bit(convolutional, optimizer)


def test_restore_would_not_go_on_to_the_bit_without_any_kind_of_state() -> None:
    straight = Run(convolutional, "threshold", seed=1)
    straight.train(0, BEFORE)
    middle = straight.capture()
    straight.train(BEFORE, AFTER)
    for kind in ("moving_mean", "seed_generator_state", "momentum", "residual", "learning_rate", "kernel$"):
        resumed = Run(convolutional, "threshold", seed=2)
        fresh = resumed.capture()
        fresh["optimizer/sgd/learning_rate"] = np.array(0.5, np.float32)
        assert any(re.search(kind, name) for name in middle), kind
        resumed.restore({name: fresh[name] if re.search(kind, name) else middle[name] for name in middle})
        resumed.train(BEFORE, AFTER)
        with pytest.raises(AssertionError):
            assert_same(resumed.capture(), straight.capture())


RESUME = """
import sys
from pathlib import Path
from p2pdl.checkpoint.folder import CheckpointFolder
from tests.training.test_state import AFTER, BEFORE, Run, convolutional, mlp
convolutional(), mlp()
for path, make_model, optimizer in zip(sys.argv[1:], (mlp, convolutional), ("threshold", "adam"), strict=True):
    folder = CheckpointFolder(Path(path))
    run = Run(make_model, optimizer, seed=3)
    run.restore(folder.newest().arrays)
    values = run.train(BEFORE, AFTER)
    folder.save(BEFORE + AFTER, {"values": values}, run.capture())
"""
"""Builds other models first, so that Keras numbers the layers otherwise."""


def test_restore_in_another_process_goes_on_to_the_bit(tmp_path: Path) -> None:
    runs = {"a": Run(mlp, "threshold", seed=1), "b": Run(convolutional, "adam", seed=1)}
    folders = {name: CheckpointFolder(tmp_path / name) for name in runs}
    for name, run in runs.items():
        run.train(0, BEFORE)
        folders[name].save(BEFORE, {}, run.capture())
    command = [sys.executable, "-c", RESUME, *(str(folder.path) for folder in folders.values())]
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    for name, run in runs.items():
        values = run.train(BEFORE, AFTER)
        newest = folders[name].newest()
        assert newest is not None
        assert (newest.step, newest.header["values"]) == (BEFORE + AFTER, values)
        assert_same(newest.arrays, run.capture())


def test_capture_names_do_not_depend_on_what_else_has_been_built() -> None:
    names = list(Run(convolutional, "threshold", seed=1).capture())
    assert list(Run(convolutional, "threshold", seed=1).capture()) == names
    assert len(set(names)) == len(names)
    assert not any(re.search(r"_\d", name) for name in names)
    assert names[:3] == [
        "model/seed_generator/seed_generator_state",
        "model/conv2d/kernel",
        "model/batch_normalization/gamma",
    ]
    assert names[-1] == "optimizer/sgd/head_bias_momentum"


def test_capture_is_of_every_variable_as_read_only_copies() -> None:
    run = Run(convolutional, "threshold", seed=1)
    arrays = run.capture()
    variables = [*run.model.variables, *run.optimizer.variables]
    assert len(arrays) == len(variables)
    assert {array.dtype.name for array in arrays.values()} == {"float16", "float32", "int64"}
    for array, variable in zip(arrays.values(), variables, strict=True):
        assert array.base is None and not array.flags.writeable
        np.testing.assert_array_equal(array, variable.numpy())
    before = {name: array.copy() for name, array in arrays.items()}
    run.train(0, 1)
    assert_same(arrays, before)
    assert any((array != variable.numpy()).any() for array, variable in zip(arrays.values(), variables, strict=True))


def test_capture_into_an_earlier_one_overwrites_what_fits_and_makes_what_does_not() -> None:
    run = Run(mlp, "momentum", seed=1)
    earlier = run.capture()
    run.train(0, 2)
    expected = run.capture()
    fitting, other, missing = list(earlier)[0], list(earlier)[1], list(earlier)[2]
    into = {**earlier, other: np.zeros(7, np.float32), "of another model": np.zeros(3)}
    del into[missing]
    arrays = capture(run.model, run.optimizer, into)
    assert_same(arrays, expected)
    assert arrays[fitting] is earlier[fitting]
    assert all(array.base is None and not array.flags.writeable for array in arrays.values())


def test_restore_neither_changes_the_arrays_nor_keeps_them() -> None:
    run = Run(mlp, "momentum", seed=1)
    run.train(0, 1)
    arrays = {name: array.copy() for name, array in run.capture().items()}
    before = {name: array.copy() for name, array in arrays.items()}
    run.restore(arrays)
    values = run.train(1, AFTER)
    assert_same(arrays, before)
    run.restore(arrays)
    for array in arrays.values():
        array[...] = 0
    assert run.train(1, AFTER) == values


def test_restore_of_integers_and_half_precision_is_exact() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    model.layers[0].kernel.assign([[0.1, -0.0], [1e30, 3.0], [2.0, 5.0]])
    optimizer.iterations.assign(2**53 + 1)
    arrays = capture(model, optimizer)
    assert arrays["model/sequential/dense/kernel"].dtype.name == "bfloat16"
    model.layers[0].kernel.assign(np.zeros((3, 2)))
    optimizer.iterations.assign(0)
    restore(model, optimizer, arrays)
    assert_same(capture(model, optimizer), arrays)
    assert int(optimizer.iterations) == 2**53 + 1


def changed(arrays: dict[str, np.ndarray], name: str, array: np.ndarray | None) -> dict[str, np.ndarray]:
    result = {**arrays, name: array}
    return {name: array for name, array in result.items() if array is not None}


@pytest.mark.parametrize(
    "name, array, complaint",
    [
        ("model/sequential/dense/kernel", None, "has no model/sequential/dense/kernel, which"),
        ("optimizer/sgd/iteration", None, "has no optimizer/sgd/iteration"),
        ("model/extra", np.zeros(1), "has model/extra, which neither"),
        (
            "model/sequential/dense/bias",
            np.zeros(25, np.float32),
            r"dense/bias is float32\[25\] in the checkpoint and float32\[24\] here",
        ),
        ("model/sequential/dense/bias", np.zeros((24, 1), np.float32), r"is float32\[24x1\] in .* float32\[24\] here"),
        ("model/sequential/dense/bias", np.zeros(24), r"is float64\[24\] in the checkpoint and float32\[24\] here"),
        ("optimizer/sgd/iteration", np.array(3, np.int32), r"is int32\[\] in the checkpoint and int64\[\] here"),
    ],
)
def test_restore_what_does_not_fit_is_refused_by_name_and_changes_nothing(name, array, complaint) -> None:
    run = Run(mlp, "momentum", seed=1)
    run.train(0, 1)
    arrays = changed(run.capture(), name, array)
    run.train(1, 1)
    before = run.capture()
    with pytest.raises(CheckpointMismatch, match=complaint) as caught:
        run.restore(arrays)
    assert "as they were when the checkpoint was saved" in caught.value.remedy
    assert_same(run.capture(), before)


@pytest.mark.parametrize(
    "other, complaint",
    [
        (lambda: Run(convolutional, "momentum", seed=1), "has no model/sequential/dense/kernel"),
        (lambda: Run(mlp, "adam", seed=1), "has no optimizer/sgd/iteration"),
        (lambda: Run(mlp, "plain", seed=1), "has no optimizer/sgd/sequential_dense_kernel_momentum"),
        (lambda: Run(mlp, "threshold", seed=1), "has optimizer/mean_threshold/sequential_dense_kernel_residual"),
    ],
)
def test_restore_of_another_model_or_optimizer_is_refused(other: Callable[[], Run], complaint: str) -> None:
    with pytest.raises(CheckpointMismatch, match=complaint):
        Run(mlp, "momentum", seed=1).restore(other().capture())


def test_capture_and_restore_before_anything_is_built_are_refused() -> None:
    model, optimizer = mlp(), keras.optimizers.SGD(0.1)
    for call in (lambda: capture(model, optimizer), lambda: restore(model, optimizer, {})):
        with pytest.raises(CheckpointError, match="the optimizer 'sgd.*' has not been built"):
            call()
    with pytest.raises(CheckpointError, match="the model 'sequential.*' has not been built"):
        capture(keras.Sequential([keras.layers.Dense(2)]), optimizer)
