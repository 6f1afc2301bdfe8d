"""The experiment of faulty nodes: its data and verdicts against numpy, what a pretender serves, and a small run."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import faulty_minority
from experiments.faulty_cluster import HONEST, Row, write_data
from experiments.faulty_minority import CASES, compared
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

CASE = {case.name: case for case in CASES}


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


def row(case: str, **changes: Any) -> Row:
    """A run of three nodes that went well."""
    what: dict[str, Any] = {
        "case": case,
        "ended": {},
        "steps": 100,
        "step_seconds": [0.01, 0.02, 0.03],
        "accuracies": [0.96, 0.97, 0.98],
        "consensus": [0.985, 0.985, 0.985],
        "merges": 30,
        "failures": {},
        "merged": [],
        "seconds": 10.0,
        "load": 1.0,
    }
    return Row(**{**what, **changes})


def test_runs_are_compared_with_the_mean_of_those_without_faulty_nodes() -> None:
    rows = [
        row(""),
        row("nan", step_seconds=[0.03] * 3),
        row("", step_seconds=[0.04] * 3, accuracies=[0.98, 0.97, 0.97]),
    ]
    first, faulty, last = compared(rows, 100)
    # Without faulty nodes a step takes 20 and 40 ms, and the sorted accuracies are 0.965, 0.97, 0.98 on average.
    assert (first["step_ratio"], faulty["step_ratio"]) == (pytest.approx(2 / 3), pytest.approx(1.0))
    assert faulty["points_before"] == pytest.approx(-0.5) and last["points_before"] == pytest.approx(0.0)
    assert faulty["points_after"] == pytest.approx(0.0) and faulty["holds"]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 99},
        {"step_seconds": [0.0221] * 3},
        {"accuracies": [0.949, 0.97, 0.98]},
        {"consensus": [0.985, 0.985, 0.974]},
        {"ended": {"node2": "exit code 1"}},
        {"ended": {"node2": "exit code 1"}, "steps": 0, "accuracies": [0.9, 0.9], "consensus": [0.9, 0.9]},
    ],
)
def test_what_costs_more_than_is_claimed_does_not_hold(changes: dict[str, Any]) -> None:
    assert compared([row(""), row("nan")], 100)[1]["holds"]
    assert not compared([row(""), row("nan", **changes)], 100)[1]["holds"]


def test_table_names_what_failed_and_who_was_merged(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(""), row("nan", failures={"not-finite": 3}, merged=["node4"], ended={"node1": "exit code 1"})]
    faulty_minority.show(compared(rows, 100))
    said = capsys.readouterr().out
    assert "nan: not-finite 3 failures" in said and "node4 in somebody's final merge" in said
    assert "node1 ended with exit code 1" in said


def test_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        faulty_minority.parse(["--cases", "nan,rude"])
    assert "there is no case rude" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["silent", "scaled", "lying"])
def test_pretender_serves_what_its_case_makes_of_an_honest_nodes_weights(name: str, tmp_path: Path) -> None:
    spec = dense_spec(5008)
    first, newest = random_vector(5008, 1), random_vector(5008, 2)
    own, case = f"127.0.0.1:{free_port()}", CASE[name]
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
            wanted = {"silent": newest, "scaled": 1000 * newest, "lying": first}[name]
            assert np.array_equal(inbox.vector, wanted)
            publish(writer, newest, step=3, final=True)
            honest_is("finished", 3)
            pretender.follow(honest.address)
            assert pull().final
            answer, _ = requester.ask(own, StatusRequest(), 10.0)
            assert isinstance(answer, StatusReply) and (answer.state, answer.step) == ("finished", 3)


def test_pretender_that_stops_does_not_answer_and_is_ended_all_the_same(tmp_path: Path) -> None:
    own = f"127.0.0.1:{free_port()}"
    with Pretender("faulty", own, own, {}, "lab", CASE["nan"].change, None, tmp_path / "log") as pretender:
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


@pytest.mark.slow
def test_small_run_says_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert faulty_minority.main(["--quick", "--json"]) == 0
    alone, faulty = json.loads(capsys.readouterr().out)["rows"]
    assert (alone["case"], faulty["case"]) == ("", "nan")
    for found in (alone, faulty):
        assert found["ended"] == {} and found["steps"] == 300 and len(found["accuracies"]) == len(HONEST)
    assert faulty["failures"]["not-finite"] > 0 and alone["merged"] == []
