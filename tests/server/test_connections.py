"""Which connections to other members are made anew, kept, and let go."""

from __future__ import annotations

import pytest

from p2pdl.errors import PeerError
from p2pdl.server.connections import DOUBTFUL_LIMIT, SILENT_SECONDS, Connections
from tests.server.noting import Noting

JUST_OVER = SILENT_SECONDS + 0.1


@pytest.fixture
def client() -> Noting:
    return Noting()


@pytest.fixture
def connections(client: Noting) -> Connections:
    return Connections(client)


def answer(connections: Connections, client: Noting, address: str) -> None:
    client.answer(address)
    received = connections.receive(0.0)
    assert received is not None and received.address == address


def test_connection_is_made_anew_when_nothing_has_come_on_it_for_long(connections: Connections, client: Noting) -> None:
    for now in (0.0, 1.0, SILENT_SECONDS):
        connections.ask("a", [b"?"], now)
    assert client.resets == []
    connections.ask("a", [b"?"], JUST_OVER)
    assert client.resets == ["a"] and [*client.open] == ["a"]
    connections.ask("a", [b"?"], JUST_OVER + SILENT_SECONDS)
    assert client.resets == ["a"], "the new one has its own time"


def test_connection_on_which_answers_come_is_kept(connections: Connections, client: Noting) -> None:
    for now in (0.0, 100.0, 200.0):
        connections.ask("a", [b"?"], now)
        assert connections.is_silent
        answer(connections, client, "a")
        assert not connections.is_silent
    assert client.resets == []


def test_answer_from_an_address_that_was_let_go_does_no_harm(connections: Connections, client: Noting) -> None:
    connections.ask("a", [b"?"], 0.0)
    connections.let_go("a")
    answer(connections, client, "a")
    assert connections.receive(0.0) is None and not connections.is_silent


def test_question_that_cannot_be_sent_leaves_no_connection(connections: Connections, client: Noting) -> None:
    client.refused.add("a")
    with pytest.raises(PeerError):
        connections.ask("a", [b"?"], 0.0)
    assert client.resets == ["a"] and not connections.is_silent
    client.refused.clear()
    connections.ask("a", [b"?"], 0.1)
    assert [*client.open] == ["a"] and connections.is_silent


def test_forgotten_questions_are_waited_for_no_more(connections: Connections, client: Noting) -> None:
    connections.ask("a", [b"?"], 0.0)
    connections.forget_questions()
    assert not connections.is_silent
    connections.ask("b", [b"?"], 1.0)
    assert connections.is_silent and client.resets == []


def test_only_what_nobody_needs_and_nobody_has_used_for_a_while_is_let_go(
    connections: Connections, client: Noting
) -> None:
    connections.needed = {"needed"}
    for address in ("needed", "silent", "answering"):
        connections.ask(address, [b"?"], 0.0)
    connections.ask("late", [b"?"], 1.0)
    answer(connections, client, "answering")
    connections.let_go_unneeded(SILENT_SECONDS)
    assert client.resets == []
    connections.let_go_unneeded(JUST_OVER)
    assert sorted(client.resets) == ["answering", "silent"] and sorted(client.open) == ["late", "needed"]
    connections.let_go("answering")
    assert len(client.resets) == 2, "there is nothing left to let go"


@pytest.mark.parametrize("is_answering", [False, True])
def test_of_very_many_addresses_those_are_let_go_that_were_asked_the_longest_ago(
    connections: Connections, client: Noting, is_answering: bool
) -> None:
    """Both where nobody listens, and where somebody answers whom no member is."""
    members = [f"member{number}" for number in range(DOUBTFUL_LIMIT)]
    connections.needed = {*members}
    for address in members:
        connections.ask(address, [b"?"], 0.0)
        answer(connections, client, address)
    for number in range(3 * DOUBTFUL_LIMIT):
        connections.ask(f"nobody{number}", [b"?"], 1.0 + number / 1000)
        if is_answering:
            answer(connections, client, f"nobody{number}")
        assert len(client.open) <= len(members) + DOUBTFUL_LIMIT
    last = [f"nobody{number}" for number in range(2 * DOUBTFUL_LIMIT, 3 * DOUBTFUL_LIMIT)]
    assert [*client.open] == members + last


def test_members_that_do_not_answer_count_among_the_doubtful_ones(connections: Connections, client: Noting) -> None:
    addresses = [f"member{number}" for number in range(DOUBTFUL_LIMIT + 1)]
    connections.needed = {*addresses}
    for number, address in enumerate(addresses):
        connections.ask(address, [b"?"], float(number))
    assert client.resets == ["member0"]
