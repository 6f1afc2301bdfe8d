"""Courses of runs and who is first in a race, against moments worked out by hand."""

from __future__ import annotations

import pytest

from experiments.harness.course import Arrival, Race, course_of
from experiments.harness.experiment import Figures


def node(evaluations: list[tuple[float, float, float, float]]) -> Figures:
    """A node with so many seconds, seconds of evaluations, accuracies and bytes; a line without an evaluation first."""
    seconds, evaluating, accuracy, nbytes = map(list, zip(*evaluations, strict=True))
    curve = {
        "seconds": [0.25, *seconds],
        "evaluation_seconds": [0.0, *evaluating],
        "test_accuracy": [None, *accuracy],
        "bytes_received": [None, *nbytes],
    }
    return {"summary": {}, "curve": curve}


SERVER = {"summary": {}, "curve": {}}


def run(accuracy: float | None, nodes: list[Figures], with_server: bool = False) -> Figures:
    named = {f"node{number}": found for number, found in enumerate(nodes, 1)}
    return {"accuracy": accuracy, "nodes": {**named, **({"server1": SERVER} if with_server else {})}}


THREE = [
    node([(0.0, 0.0, 0.1, 0.0), (1.5, 0.5, 0.5, 10.0), (3.0, 1.0, 0.9, 30.0)]),
    node([(0.0, 0.0, 0.2, 0.0), (1.5, 0.5, 0.6, 20.0), (4.5, 0.5, 0.8, 60.0)]),
    node([(0.0, 0.0, 0.3, 0.0), (5.0, 1.0, 0.7, 40.0)]),
]


def test_accuracy_is_the_median_of_the_latest_evaluations_over_the_time_without_them() -> None:
    course = course_of(run(None, THREE))
    assert course.seconds.tolist() == [0.0, 1.0, 2.0, 4.0]
    # At 2 s: 0.9, 0.6 and still 0.3; at 4 s: 0.9, 0.8 and 0.7.
    assert course.accuracy.tolist() == [0.2, 0.5, 0.6, 0.8]
    assert course.first(0.6) == 2 and course.first(0.81) is None


def test_the_busiest_link_is_the_servers_or_that_of_the_node_that_has_received_most() -> None:
    # At 2 s the nodes have 30, a third of the way from 20 to 60, and half of 40.
    received = [[0.0, 10.0, 30.0, 30.0], [0.0, 20.0, 20.0 + 40.0 / 3, 60.0], [0.0, 10.0, 20.0, 40.0]]
    alone, served = course_of(run(None, THREE)), course_of(run(None, THREE, with_server=True))
    assert alone.busiest_bytes.tolist() == pytest.approx([0.0, 20.0, 100.0 / 3, 60.0])
    assert served.busiest_bytes.tolist() == pytest.approx([sum(column) for column in zip(*received, strict=True)])
    assert served.node_bytes.tolist() == alone.node_bytes.tolist() == pytest.approx([0.0, 10.0, 30.0, 40.0])


def test_a_node_that_was_never_evaluated_leaves_no_course() -> None:
    never = {"summary": {}, "curve": {"seconds": [1.0], "evaluation_seconds": [0.0], "test_accuracy": [None]}}
    never["curve"]["bytes_received"] = [1.0]
    assert not len(course_of(run(None, [*THREE, never])).seconds)


def straight(accuracy: float | None, own: list[float], pace: float, with_server: bool = True) -> Figures:
    """One node with an evaluation each `pace` seconds."""
    lines = [(pace * n, 0.0, value, 100.0 * n) for n, value in enumerate(own)]
    return run(accuracy, [node(lines)], with_server)


RUNS = {
    "gossip": straight(0.99, [0.1, 0.8, 0.9, 0.95, 0.96], 1.0, with_server=False),
    "good": straight(0.95, [0.1, 0.5, 0.8, 0.9, 0.94], 10.0),
    "quick": straight(0.91, [0.1, 0.9, 0.95, 0.91], 5.0),
    "poor": straight(0.8, [0.1, 0.7, 0.8], 2.0),
}


def test_the_target_is_the_best_servers_end_and_the_time_that_of_the_first_server_there() -> None:
    race = Race(RUNS, ("good", "quick", "poor"))
    assert (race.best, race.target, race.fastest) == ("good", 0.95, "quick")
    # The server's own end counts, although its worker was not evaluated with it.
    assert race.seconds("good", 0.95) == 40.0 and race.seconds("poor", 0.95) is None
    assert race.seconds("quick", 0.95) == 10.0 and race.arrival("quick", 0.95) == Arrival(10.0, 200.0, 200.0)
    assert race.seconds("gossip", 0.95) == 3.0 and race.share("gossip") == pytest.approx(0.3)
    assert race.share_of("gossip", "good") == pytest.approx(3 / 40)
    assert race.share_of("gossip", "quick") == pytest.approx(3 / 10)
    assert race.share_of("gossip", "poor") == pytest.approx(1 / 4)
    assert race.share_of("gossip", "gossip") is None


def ended(accuracy: float | None, seconds: float, nbytes: float) -> Figures:
    """Two nodes of a run that was evaluated only when it was over; one has received twice as much."""
    figures = straight(accuracy, [0.1, 0.2], 1.0, with_server=False)
    merge = {"nodes": ["node1"], "missing": {}, "seconds": 0.25}
    summary = {"seconds": seconds + 1.0, "evaluation_seconds": 1.0, "bytes_received": nbytes, "final_merge": merge}
    [node] = figures["nodes"].values()
    slower = {**summary, "seconds": seconds + 1.5, "bytes_received": 2 * nbytes}
    nodes = {"node1": {**node, "summary": summary}, "node2": {**node, "summary": slower}}
    return {**figures, "is_consensus": accuracy is not None, "nodes": nodes}


def test_the_consensus_of_a_run_counts_when_the_slowest_node_is_done_and_has_merged() -> None:
    lengths = [ended(0.97, 8.0, 800.0), ended(0.94, 2.0, 200.0), ended(0.96, 5.0, 500.0)]
    race = Race(RUNS, ("good",), {"gossip": lengths})
    assert [worth for _, worth in race.ends("gossip")] == [0.94, 0.96, 0.97]
    assert race.arrival("gossip", 0.97) == Arrival(8.75, 1200.0, 1600.0)
    # Its own weights come to 0.96 at 4 s, before that run's end.
    assert race.seconds("gossip", 0.96) == 4.0 and race.seconds("gossip", 0.98) is None
    assert race.seconds("gossip", 0.91) == pytest.approx(2.75)


def test_a_run_without_a_whole_final_merge_has_no_end() -> None:
    lost = ended(0.97, 8.0, 800.0)
    lost["nodes"]["node2"]["summary"] = {}
    assert Race(RUNS, ("good",), {"gossip": [lost]}).ends("gossip") == []
    assert Race(RUNS, ("good",), {"gossip": [ended(0.97, 8.0, 800.0) | {"is_consensus": False}]}).ends("gossip") == []


def test_a_consensus_of_which_no_run_is_known_does_not_count() -> None:
    assert Race(RUNS, ("good",)).seconds("gossip", 0.97) is None
    lazy = RUNS | {"gossip": straight(0.99, [0.1, 0.2], 1.0, with_server=False)}
    assert Race(lazy, ("good",)).share("gossip") is None


def test_a_race_without_servers_has_no_target() -> None:
    race = Race({"gossip": RUNS["gossip"]}, ("good",))
    assert (race.best, race.target, race.fastest) == ("", None, "")
    assert race.seconds("gossip", race.target) is None and race.share("gossip") is None
