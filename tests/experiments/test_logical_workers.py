"""Logical workers against plain SGD, in step and each at its own pace, the bytes of their pushes, and their deaths."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from experiments.harness.crew import CrewRun, Progress
from experiments.logical_workers import Crew, Look, System, Task
from p2pdl.types import Float32Vector

RATE, BATCH = 0.05, 8
HEADERS = 1500
"""Bytes of a push and a pull beside the update, at most: the headers of at most seven requests."""

DENSE = System(learning_rate=RATE)


def task(workers: int, seed: int = 0) -> Task:
    return Task("digits", "cnn", 0.1, workers, BATCH, seed)


def sparse(kept: float, values: str = "float32") -> System:
    return System("asp", "adacomp", RATE, sparsifier="adacomp", settings={"fraction": kept}, values=values)


def gradient_of(work: Task, worker: int, step: int, weights: Float32Vector) -> tuple[Float32Vector, float]:
    inputs, labels = work.batches[worker].batch(step)
    work.weights.assign(weights)
    loss = float(work.gradient(tf.constant(inputs), tf.constant(labels)))
    return work.gradient.vector.copy(), loss


def test_one_worker_alone_is_plain_training() -> None:
    work = task(1)
    crew = Crew(work, DENSE)
    [look] = crew.run(5, look_every=5, samples=100)
    weights, losses = work.initial.copy(), []
    for step in range(5):
        gradient, loss = gradient_of(work, 0, step, weights)
        weights -= np.float32(RATE) * gradient
        losses.append(loss)
    assert (look.accuracy, look.loss) == pytest.approx(work.look(weights, 100), rel=1e-5)
    assert look.train_loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert crew.staleness == 0.0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_in_step_the_mean_of_all_gradients_moves_the_weights(momentum: float) -> None:
    work = task(3)
    [look] = Crew(work, System("bsp", learning_rate=RATE, momentum=momentum)).run(9, look_every=9, samples=100)
    weights, velocity = work.initial.copy(), np.zeros_like(work.initial)
    for step in range(3):
        gradients = [gradient_of(work, worker, step, weights)[0] for worker in range(3)]
        velocity = np.float32(momentum) * velocity + np.mean(gradients, axis=0)
        weights -= np.float32(RATE) * velocity
    assert (look.accuracy, look.loss) == pytest.approx(work.look(weights, 100), rel=1e-4)


def test_every_worker_is_as_late_as_the_others_push_meanwhile() -> None:
    crew = Crew(task(6), DENSE)
    list(crew.run(60, look_every=60, samples=50))
    assert 4.0 < crew.staleness < 6.0


def test_ingress_is_that_of_the_updates_and_little_else() -> None:
    work = task(3)
    [dense] = Crew(work, DENSE).run(10, look_every=10, samples=50)
    assert 10 * work.spec.nbytes < dense.ingress < 10 * (work.spec.nbytes + HEADERS)
    few = [next(Crew(work, sparse(0.01, values)).run(10, 10, 50)).ingress for values in ("float32", "int8")]
    assert few[1] < few[0] < 10 * (0.1 * work.spec.nbytes + HEADERS)


def test_the_same_seed_gives_the_same_looks_and_another_one_others() -> None:
    def looks(work: Task) -> list[Look]:
        return list(Crew(work, sparse(0.05, "int8")).run(12, look_every=5, samples=50))

    work = task(4)
    once = looks(work)
    assert [look.pushes for look in once] == [5, 10, 12]
    assert looks(work) == once
    assert looks(task(4, seed=1)) != once


def test_who_dies_pushes_no_more_and_is_given_up_when_its_lease_is_over() -> None:
    work, given_up = task(4), []
    for pushes in (30, 100):
        crew = Crew(work, sparse(0.05))
        list(crew.run(pushes, look_every=pushes, samples=50, deaths={0: 8, 2: 20}))
        given_up.append(crew.given_up)
    # Two are left: thirty pushes take less time than a lease, a hundred take more.
    assert given_up == [0, 2]
    steps = [batches.step for batches in work.batches]
    assert sum(steps) == 100 and 0 < steps[0] < steps[2] < 10 < min(steps[1], steps[3])


@pytest.mark.parametrize("policy, deaths", [("asp", {0: 1, 1: 1}), ("bsp", {0: 1})])
def test_nobody_may_be_left_alone_or_wait_for_the_dead(policy: str, deaths: dict[int, int]) -> None:
    with pytest.raises(ValueError, match=f"cannot die under {policy}"):
        next(Crew(task(2), System(policy)).run(4, 4, 50, deaths))


def test_deaths_of_a_run_are_spread_over_its_middle_half() -> None:
    run = CrewRun({}, "digits", "cnn", 1.0, 20, 16, pushes=4000, look_every=100, dead=5)
    assert run.deaths == {0: 1200, 1: 1600, 2: 2000, 3: 2400, 4: 2800}
    assert CrewRun({}, "digits", "cnn", 1.0, 20, 16, pushes=4000, look_every=100).deaths == {}


def test_bytes_count_up_to_the_first_look_that_reached_an_accuracy() -> None:
    progress = Progress([1, 2, 3], [1000, 2000, 3000], [0.8, 0.96, 0.94], [0.5, 0.2, 0.3])
    assert [progress.ingress_to(wanted) for wanted in (0.8, 0.9, 0.95, 0.99)] == [1000, 2000, 2000, None]
