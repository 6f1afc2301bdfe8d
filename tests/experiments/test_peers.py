"""The experiment of TensorFlow's own strategies: its data, steps and figures, how its processes end, a small run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.peers import __main__ as command
from experiments.peers import figures, records
from experiments.peers.task import COORDINATOR, Task
from experiments.peers.work import Work
from p2pdl.partition import partition
from p2pdl.training.data.dataset import Dataset, scaled
from tests.processes import ROOT, children, is_running, wait_until

COMMAND = [sys.executable, "-m", "experiments.peers", "--size", "smoke"]
START_SECONDS, END_SECONDS = 60.0, 60.0


def dataset(dtype: type = np.uint8) -> Dataset:
    """Forty samples of two classes that one pixel tells apart; no two are the same."""
    x = np.random.default_rng(0).integers(100, size=(40, 3, 2, 1)).astype(dtype)
    x[:, 0, 0, 0] = np.arange(40)
    y = (np.arange(40) % 2).astype(np.int32)
    x[y == 1, 1, 0, 0] = 255
    return Dataset("made", x, y, x, y)


def work(folder: Path, data: Dataset, **changes: Any) -> Work:
    usual: dict[str, Any] = {
        "folder": str(folder),
        "model": "mlp",
        "width": 0.02,
        "input_shape": data.input_shape,
        "dtype": data.x_train.dtype.name,
        "classes": data.classes,
        "samples": 20,
        "workers": 2,
        "batch": 5,
        "steps": 100,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "seed": 3,
    }
    return Work(**{**usual, **changes})


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_pass_of_a_worker_is_its_iid_part(dtype: type, tmp_path: Path) -> None:
    data = dataset(dtype)
    assert records.write(data, tmp_path, 2, seed=3) == 20
    for worker, rows in enumerate(partition("iid", data.y_train, 2, 3)):
        batches = [(x.numpy(), y.numpy()) for x, y in records.batches(work(tmp_path, data), worker).take(8)]
        passes = [batches[:4], batches[4:]]
        orders = []
        for one in passes:
            x, y = np.concatenate([pair[0] for pair in one]), np.concatenate([pair[1] for pair in one])
            assert x.dtype == np.float32 and y.dtype == np.int32
            order = np.argsort(x[:, 0, 0, 0])
            np.testing.assert_allclose(x[order], scaled(data.x_train[rows]), rtol=1e-6)
            np.testing.assert_array_equal(y[order], data.y_train[rows])
            orders.append(order.tolist())
        assert orders[0] != orders[1]
    x, y = records.read_test(tmp_path)
    np.testing.assert_array_equal(x, data.x_test)
    np.testing.assert_array_equal(y, data.y_test)


@pytest.mark.parametrize("form", ["keras", "module"])
def test_each_form_trains_the_model_that_is_evaluated(form: str, tmp_path: Path) -> None:
    import tensorflow as tf

    from experiments.peers import forms

    data = dataset()
    records.write(data, tmp_path, 2, seed=3)
    task = work(tmp_path, data, width=0.05)
    trained = forms.FORMS[form](task)
    iterator = iter(records.batches(task, 0))

    @tf.function
    def call() -> Any:
        return forms.steps_of(tf.distribute.get_strategy(), trained, iterator)

    first = float(call()[0])
    for _ in range(9):
        loss, moments = call()
    assert float(loss) < 0.2 * first
    # A moment that waited for a core may be as late as the next one: steps of so small a model take microseconds.
    assert moments.shape == (10,) and (np.diff(moments) >= 0).all() and moments[-1] > moments[0]
    assert forms.accuracy(task, trained.weights()) == 1.0
    assert trained.trainable_nbytes == sum(weight.nbytes for weight in trained.weights())


def test_times_are_those_between_steps_of_one_worker() -> None:
    seconds = figures.step_seconds([[3.0, 1.0, 2.5], [10.0, 14.0]])
    assert seconds == [1.5, 0.5, 4.0]
    assert figures.summary([0.5, 1.5, 4.0])["median"] == 1.5
    assert figures.summary(list(np.arange(11.0)))["p90"] == pytest.approx(9.0)


def test_bytes_of_a_step_by_arithmetic() -> None:
    assert figures.bytes_per_step(figures.PARAMETER_SERVER, 120, 100, workers=4) == 220
    assert figures.bytes_per_step(figures.MIRRORED, 120, 100, workers=4) == 150
    assert figures.bytes_per_step(figures.MIRRORED, 120, 100, workers=2) == 100


def test_tasks_travel_as_arguments(tmp_path: Path) -> None:
    task = work(tmp_path, dataset())
    assert Work.from_argument(task.to_argument()) == task
    assert task.calls == 10 and work(tmp_path, dataset(), steps=1).calls == 3
    told = Task(COORDINATOR, 1, "keras", task.to_argument(), "file").with_lifeline(7)
    assert Task.from_argument(told.to_argument()) == told and told.lifeline == 7


@pytest.mark.parametrize(
    "words",
    [
        ["--workers", "1"],
        ["--batch", "0"],
        ["--passes", "-1"],
        ["--learning-rate", "nan"],
        ["--strategy", "gossip"],
        ["--form", "module", "--model", "cnn"],
    ],
)
def test_senseless_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(words)


def test_too_little_to_train_on_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--data", "digits", "--passes", "1"]) == 2
    said = capsys.readouterr().err
    assert "6 steps of each worker" in said and "-> give it more with --passes" in said


def started(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def tasks(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_signal_ends_every_task(number: signal.Signals, code: int) -> None:
    with started("--strategy", "parameter-server") as process:
        try:
            # A server, two workers, the coordinator.
            assert wait_until(lambda: len(tasks(process.pid)) == 4, START_SECONDS)
            own = tasks(process.pid)
            process.send_signal(number)
            process.communicate(timeout=END_SECONDS)
            assert process.returncode == code
        finally:
            process.kill()
    assert wait_until(lambda: not any(map(is_running, own)), END_SECONDS)


def test_task_that_dies_ends_the_run_and_is_named() -> None:
    with started("--strategy", "mirrored") as process:
        try:
            assert wait_until(lambda: len(tasks(process.pid)) == 2, START_SECONDS)
            own = tasks(process.pid)
            os.kill(own[1], signal.SIGKILL)
            said = process.communicate(timeout=END_SECONDS)[1].decode()
            assert process.returncode == 1
        finally:
            process.kill()
    assert "the process worker1 has ended too early (ended by SIGKILL)" in said and "\n  -> " in said
    assert "Traceback" not in said and not any(map(is_running, own))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", command.STRATEGIES)
def test_small_run(strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = children()
    assert command.main(["--size", "smoke", "--strategy", strategy, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert row["strategy"] == strategy and row["steps"] == 900
    assert row["steps_per_second"] > 0 < row["seconds_per_step"]["median"] <= row["seconds_per_step"]["p90"]
    # Scikit-learn's digits: one machine makes 0.98.
    assert row["accuracy"] > 0.9
    command.show({"data": "digits", "model": "mlp", "workers": 2, "batch": 32}, [row])
    assert f"{row['accuracy']:.4f}" in capsys.readouterr().out
    assert children() == before
