"""Waiting for the others at the end: for those that may still come, and no longer."""

from __future__ import annotations

from p2pdl.protocol.finish import DONE_STATES, GONE_STATES, SILENCE_SECONDS, Gathering
from p2pdl.protocol.messages import STATES


def gathering(linger: float = 300.0, goal: frozenset[str] = DONE_STATES) -> Gathering:
    return Gathering(["b", "c", "d"], goal, 0.0, linger)


def test_states_are_those_of_the_wire() -> None:
    assert set(STATES) > DONE_STATES | GONE_STATES
    assert not DONE_STATES & GONE_STATES


def test_gathering_is_over_when_everybody_has_arrived() -> None:
    gathered = gathering()
    gathered.on_status("b", "finished", 1.0)
    gathered.on_status("c", "merged", 1.0)
    gathered.on_status("d", "training", 1.0)
    assert (gathered.awaited(2.0), gathered.is_over(2.0)) == (["d"], False)
    gathered.on_status("d", "finished", 3.0)
    assert (gathered.awaited(3.0), gathered.is_over(3.0)) == ([], True)
    assert gathered.arrived() == ["b", "c", "d"]
    assert gathered.missing() == {}


def test_node_alone_has_nobody_to_wait_for() -> None:
    assert Gathering([], DONE_STATES, 0.0, 300.0).is_over(0.0)


def test_peer_that_still_trains_is_waited_for_while_it_answers() -> None:
    gathered = gathering(linger=1e6)
    for seconds in range(0, 1000, 5):
        for peer in "bcd":
            gathered.on_status(peer, "training", float(seconds))
        assert gathered.awaited(seconds + 4.0) == ["b", "c", "d"]


def test_peer_that_is_silent_is_given_up_and_its_error_is_told() -> None:
    gathered = gathering()
    for peer in "bcd":
        gathered.on_status(peer, "training", 5.0)
    gathered.on_status("b", "finished", 6.0)
    gathered.on_status("c", "finished", 6.0)
    gathered.on_silence("d", "d: no answer within 2 s")
    assert not gathered.is_over(5.0 + SILENCE_SECONDS - 0.1)
    assert gathered.is_over(5.0 + SILENCE_SECONDS)
    assert gathered.arrived() == ["b", "c"]
    assert gathered.missing() == {"d": "d: no answer within 2 s"}


def test_peer_that_answers_again_is_waited_for_again() -> None:
    gathered = gathering()
    for peer in "bc":
        gathered.on_status(peer, "finished", 1.0)
    gathered.on_silence("d", "silent")
    assert gathered.is_over(SILENCE_SECONDS)
    gathered.on_status("d", "training", SILENCE_SECONDS + 1)
    assert gathered.awaited(SILENCE_SECONDS + 2) == ["d"]


def test_peer_that_stopped_or_failed_is_not_waited_for() -> None:
    gathered = gathering()
    gathered.on_status("b", "stopped", 1.0)
    gathered.on_status("c", "failed", 1.0)
    gathered.on_status("d", "finished", 1.0)
    assert gathered.is_over(1.0)
    assert gathered.missing() == {"b": "it has stopped", "c": "it has failed"}


def test_linger_ends_the_wait_and_names_who_was_not_done() -> None:
    gathered = gathering(linger=30.0)
    for peer in "bcd":
        gathered.on_status(peer, "training", 29.0)
    assert not gathered.is_over(29.9)
    assert gathered.is_over(30.0)
    assert gathered.missing() == dict.fromkeys("bcd", "it was still training when the time to linger was over")


def test_goal_of_a_second_meeting_is_stricter() -> None:
    gathered = gathering(goal=frozenset({"merged"}))
    gathered.on_status("b", "finished", 1.0)
    gathered.on_status("c", "merged", 1.0)
    gathered.on_status("d", "stopped", 1.0)
    assert gathered.awaited(1.0) == ["b"]
    assert gathered.arrived() == ["c"]


def test_finished_peer_stays_arrived_when_it_falls_silent() -> None:
    gathered = gathering()
    for peer in "bcd":
        gathered.on_status(peer, "finished", 1.0)
        gathered.on_silence(peer, "gone")
    assert gathered.arrived() == ["b", "c", "d"]
    assert gathered.missing() == {}
