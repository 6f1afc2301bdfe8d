"""Logical workers against plain SGD, the bytes that a server takes in, and what the table makes of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from experiments import adacomp_ingress
from experiments.adacomp_ingress import CASES, CLAIMED, DENSE
from experiments.logical_workers import Crew, Look, Task

RATE, BATCH = 0.05, 8
HEADERS = 1500
"""Bytes of a push and a pull beside the update, at most: the headers of at most seven requests."""


def task(workers: int, seed: int = 0) -> Task:
    return Task("digits", "cnn", 0.1, workers, BATCH, seed)


def test_one_worker_alone_is_plain_training() -> None:
    work = task(1)
    crew = Crew(work, None, "float32", "consgd", RATE)
    [look] = crew.run(5, look_every=5, samples=100)
    weights = work.initial.copy()
    for step in range(5):
        inputs, labels = work.batches[0].batch(step)
        work.weights.assign(weights)
        work.gradient(tf.constant(inputs), tf.constant(labels))
        weights -= np.float32(RATE) * work.gradient.vector
    assert (look.accuracy, look.loss) == pytest.approx(work.look(weights, 100), rel=1e-5)
    assert crew.staleness == 0.0


def test_every_worker_is_as_late_as_the_others_push_meanwhile() -> None:
    crew = Crew(task(6), None, "float32", "consgd", RATE)
    list(crew.run(60, look_every=60, samples=50))
    assert 4.0 < crew.staleness < 6.0


def test_ingress_is_that_of_the_updates_and_little_else() -> None:
    work = task(3)
    [dense] = Crew(work, None, "float32", "consgd", RATE).run(10, look_every=10, samples=50)
    assert 10 * work.spec.nbytes < dense.ingress < 10 * (work.spec.nbytes + HEADERS)
    few = [next(Crew(work, 0.01, values, "adacomp", RATE).run(10, 10, 50)).ingress for values in ("float32", "int8")]
    assert few[1] < few[0] < 10 * (0.1 * work.spec.nbytes + HEADERS)


def test_the_same_seed_gives_the_same_looks_and_another_one_others() -> None:
    def looks(work: Task) -> list[Look]:
        return list(Crew(work, 0.05, "int8", "adacomp", RATE).run(12, look_every=5, samples=50))

    work = task(4)
    once = looks(work)
    assert [look.pushes for look in once] == [5, 10, 12]
    assert looks(work) == once
    assert looks(task(4, seed=1)) != once


def row(title: str, *looks: tuple[int, float]) -> dict[str, Any]:
    made = [Look(number, nbytes, accuracy, 0.1) for number, (nbytes, accuracy) in enumerate(looks, start=1)]
    return adacomp_ingress.row(title, made, 19.0, 1.0, (0.9, 0.95, 0.99))


def test_bytes_count_up_to_the_first_look_that_reached_an_accuracy() -> None:
    dense = row(DENSE, (1000, 0.8), (2000, 0.96), (3000, 0.94))
    ours = row(CLAIMED, (10, 0.9), (20, 0.93), (30, 0.97))
    assert dense["reached"] == {"0.9": 2000, "0.95": 2000, "0.99": None}
    rows = adacomp_ingress.compared([dense, ours])
    assert rows[1]["times_fewer"] == {"0.9": 200.0, "0.95": pytest.approx(2000 / 30), "in all": 100.0}
    assert "times_fewer" in adacomp_ingress.compared([ours])[0]


@pytest.mark.parametrize(
    "nbytes, verdict", [(20, "100 times fewer bytes to 0.95, at least 100: holds"), (21, "not hold")]
)
def test_verdict_is_about_the_greatest_accuracy_that_both_reach(
    nbytes: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(DENSE, (1000, 0.9), (2000, 0.96)), row(CLAIMED, (1, 0.9), (nbytes, 0.96))]
    adacomp_ingress.show(adacomp_ingress.compared(rows))
    assert verdict in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("words", [["--cases", "adacomp"], ["--passes", "0"], ["--learning-rate", "-1"]])
def test_senseless_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        adacomp_ingress.parse(words)


def test_smoke_run_has_a_row_for_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert adacomp_ingress.main(["--size", "smoke", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["case"] for row in rows] == list(CASES)
    assert all(row["times_fewer"]["in all"] > 10 for row in rows[1:])
