"""The experiment of faulty nodes: its data and verdicts against numpy, and what a pretender serves."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.faulty_cluster import Row, write_data
from experiments.faulty_minority import CLAIMED, FAULTS, STEPS, TITLES, conclude, costs
from experiments.harness.experiment import Size
from experiments.pretenders import Pretender
from p2pdl.clock import MonotonicClock
from p2pdl.partition import partition
from p2pdl.protocol.messages import StatusReply, StatusRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.server.view import status_block
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS
from p2pdl.transport.zeromq import ZmqClient
from tests.processes import free_port, server, wait_until
from tests.stores import dense_spec, new_store, publish, random_vector, writing


def asking() -> closing[Requester]:
    """Somebody who asks nodes, and drops every connection in the end."""
    return closing(Requester(ZmqClient(), "lab", "test", MonotonicClock()))


def test_reference_has_the_data_that_the_honest_ones_of_five_have(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    whole = {"x_train": random.random((50, 4)), "y_train": np.arange(50), "x_test": random.random((5, 4))}
    paths = write_data(tmp_path, {**whole, "y_test": np.arange(5)}, seed=3)
    with np.load(paths[0]) as everything, np.load(paths[1]) as parts:
        assert np.array_equal(everything["x_train"], whole["x_train"])
        held = np.concatenate(partition("iid", whole["y_train"], 5, 3)[:3])
        assert sorted(parts["y_train"]) == sorted(held) and len(held) == 30
        assert np.array_equal(parts["x_train"], whole["x_train"][parts["y_train"]])
        assert np.array_equal(parts["y_test"], np.arange(5))


def row(**changes: Any) -> Row:
    """Three nodes that have fared well."""
    what: dict[str, Any] = {
        "ended": {},
        "steps": STEPS[Size.SMALL],
        "step_seconds": [0.01, 0.02, 0.03],
        "accuracies": [0.96, 0.97, 0.98],
        "consensus": [0.985, 0.985, 0.985],
        "merges": 30,
        "failures": {},
        "merged": [],
    }
    return Row(**{**what, **changes})


NAMES = list(CLAIMED)


def results_of(*runs: tuple[Row, Row]) -> dict[str, Any]:
    """Of the first cases."""
    pairs = zip(NAMES, runs, strict=False)
    return {name: {"with": asdict(first), "without": asdict(second)} for name, (first, second) in pairs}


def holds(*runs: tuple[Row, Row]) -> bool:
    """Whether all that is claimed of the first case holds."""
    done = conclude(Size.SMALL, results_of(*runs))
    return all(one.holds for one in done.promises if one.what.startswith(f"{TITLES[NAMES[0]]}: "))


def test_steps_are_compared_side_by_side_and_accuracies_with_all_runs_without_faulty_nodes() -> None:
    results = results_of(
        (row(step_seconds=[0.03] * 3), row(step_seconds=[0.02, 0.03, 0.04])),
        (
            row(step_seconds=[0.022] * 3, consensus=[0.97] * 3),
            row(accuracies=[0.98, 0.97, 0.97], consensus=[0.975] * 3),
        ),
    )
    first, second = costs(results).values()
    assert (first.step_ratio, second.step_ratio) == (pytest.approx(1.0), pytest.approx(1.1))
    # The sorted accuracies are 0.965, 0.97, 0.98 on average, and those after the merge 0.98.
    assert first.points_before == second.points_before == pytest.approx(-0.5)
    assert first.points_after == pytest.approx(0.5) and second.points_after == pytest.approx(-1.0)
    assert costs(json.loads(json.dumps(results)))[NAMES[1]].points_after == second.points_after


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 1999},
        {"step_seconds": [0.0221] * 3},
        {"step_seconds": []},
        {"accuracies": [0.949, 0.97, 0.98]},
        {"consensus": [0.985, 0.985, 0.974]},
        {"ended": {"node2": "exit code 1"}},
        {"ended": {"node2": "exit code 1"}, "steps": 0, "accuracies": [0.9, 0.9], "consensus": [0.9, 0.9]},
    ],
)
def test_what_costs_more_than_is_claimed_does_not_hold(changes: dict[str, Any]) -> None:
    assert holds((row(), row()))
    assert not holds((row(**changes), row()))
    assert not holds((row(), row(ended={"node1": "exit code 1"})))


def test_tables_name_what_failed_and_who_was_merged() -> None:
    faulty = row(failures={"not-finite": 3}, merged=["node4"], ended={"node1": "exit code 1"}, step_seconds=[])
    _, met = conclude(Size.SMALL, results_of((faulty, row()))).tables
    assert met.rows == [[TITLES[NAMES[0]], "not-finite 3", "node4", "node1: exit code 1"]]


@pytest.mark.parametrize("name", ["silent", "scaled", "lying", "stale"])
def test_pretender_serves_what_its_case_makes_of_an_honest_nodes_weights(name: str, tmp_path: Path) -> None:
    spec = dense_spec(5008)
    first, newest = random_vector(5008, 1), random_vector(5008, 2)
    own, case = f"127.0.0.1:{free_port()}", FAULTS[name]
    inbox = Inbox(spec)

    def pull() -> Any:
        inbox.expect(None)
        return requester.pull("faulty", own, spec, PullSettings(), inbox.accept).snapshot

    with (
        new_store() as store,
        writing(store, spec) as writer,
        asking() as requester,
        closing(Block(store, STATUS)) as status,
    ):

        def honest_is(state: str, step: int) -> None:
            status.write(status_block(now=0.0, state=state, step=step, steps=9, samples=64 * step, loss=0.5))

        with (
            server(store, node="alpha") as honest,
            Pretender("faulty", own, own, {}, "lab", case.change, case.loss, tmp_path / "log") as pretender,
        ):
            honest_is("ready", 0)
            pretender.follow(honest.address)
            answer, _ = requester.ask(own, StatusRequest(), 10.0)
            assert isinstance(answer, StatusReply) and (answer.state, answer.step) == ("ready", 0)
            for step, vector in ((1, first), (2, newest)):
                publish(writer, vector, step=step)
                honest_is("training", step)
                pretender.follow(honest.address)
            snapshot = pull()
            assert (snapshot.step, snapshot.samples, snapshot.final) == (2, 128, False)
            assert snapshot.loss == (0.5 if case.loss is None else case.loss)
            wanted = {"scaled": 1000 * newest, "stale": first}.get(name, newest)
            assert np.array_equal(inbox.vector, wanted)
            publish(writer, newest, step=3, final=True)
            honest_is("finished", 3)
            pretender.follow(honest.address)
            assert pull().final
            answer, _ = requester.ask(own, StatusRequest(), 10.0)
            assert isinstance(answer, StatusReply) and (answer.state, answer.step) == ("finished", 3)


def test_pretender_that_stops_does_not_answer_and_is_ended_all_the_same(tmp_path: Path) -> None:
    own = f"127.0.0.1:{free_port()}"
    with Pretender("faulty", own, own, {}, "lab", FAULTS["nan"].change, None, tmp_path / "log") as pretender:
        pretender.stop()
        with asking() as requester:
            answers = requester.ask_all([own], StatusRequest(), 0.5)
        assert type(answers[own]).__name__ == "PeerTimeout"
        # What only looks at the honest node goes on.
        pretender.follow(own)
    assert wait_until(lambda: not any("p2pdl-weights" in _target(name) for name in os.listdir("/proc/self/fd")), 5.0)


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""
