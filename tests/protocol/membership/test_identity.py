"""A node and its name: refutation, restart, a new address, and two processes with one name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pdl.protocol.membership.actions import Ask, Superseded
from p2pdl.protocol.membership.identity import CHECKS, CHECKS_WAITING
from p2pdl.protocol.membership.members import Member, Row
from p2pdl.protocol.messages import ProbeReply, ProbeRequest, SyncReply, SyncRequest
from tests.protocol.membership.driving import LAN, Answer, Driven, address_of, joined, life_of, member, row

OTHER_LIFE = life_of("a") + 1
"""Above the node's own, so that at equal incarnations the other's claim is the higher."""


def another(incarnation: int = 0, state: str = "alive", life: int = OTHER_LIFE, place: str = "z") -> Row:
    """The row of another process of this node's name."""
    return row("a", state, incarnation, life=life, address=address_of(place))


def answering(life: int, place: str = "z") -> Callable[[Ask], Answer | str]:
    """A process of this life answers at that place as node a."""
    return lambda ask: ("a", ProbeReply(life, ())) if ask.address == address_of(place) else "peers"


def checks(driven: Driven, place: str = "z") -> list[float]:
    return [moment for moment, ask in driven.asked if ask.address == address_of(place)]


def newcomer(record: Row, **more: object) -> Driven:
    """A node that has just read a record of its own name in its first list."""
    driven = Driven(["b"], **more)  # type: ignore[arg-type]
    answers = driven.answers
    driven.answers = lambda ask: (
        ("b", SyncReply(1, (row("b"), record)))
        if isinstance(ask.request, SyncRequest) and not ask.request.members
        else answers(ask)
    )
    return driven


@pytest.mark.parametrize("state", ["suspect", "dead", "left"])
@pytest.mark.parametrize("incarnation", [0, 3])
def test_node_that_is_given_up_contradicts_with_a_higher_incarnation(state: str, incarnation: int) -> None:
    driven = joined("b", "c")
    own = row("a", "alive", incarnation + 1)
    assert driven.hear(row("b"), row("a", state, incarnation, accuser="c"))[0] == own
    assert driven.core.counters["refutations"] == 1
    assert driven.core.health == 1, "others could not reach this node: it may be the slow one"
    told = [it for ask in driven.run(1.0) if isinstance(ask.request, ProbeRequest) for it in ask.request.rumours]
    assert own in told
    assert [it.previous_state for it in driven.changes] == ([] if state == "suspect" else [state])
    assert driven.hear(row("b"), row("a", state, incarnation, accuser="c"))[0] == own, "once is enough"


@pytest.mark.parametrize("lie", [row("a", address="host-z:7101"), row("a", incarnation=4, address="host-z:7101")])
def test_wrong_address_for_this_node_is_contradicted(lie: Row) -> None:
    driven = joined("b", "c")
    reply = driven.hear(row("b"), lie)
    assert reply[0] == row("a", incarnation=int(str(lie["incarnation"])) + 1)
    assert driven.superseded is None and driven.core.health == 0


def test_server_that_starts_again_in_the_same_life_takes_up_its_incarnation() -> None:
    driven = newcomer(row("a", "alive", 5))
    driven.run(0.5)
    assert driven.hear(row("b")) == (row("a", "alive", 5),)
    assert not driven.core.counters["refutations"]


@pytest.mark.parametrize("state", ["alive", "suspect", "dead", "left"])
def test_restart_at_the_same_address_goes_above_the_former_life_at_once(state: str) -> None:
    driven = newcomer(row("a", state, 5, life=OTHER_LIFE, accuser="b"))
    driven.run(0.0)
    assert driven.hear(row("b")) == (row("a", "alive", 6),)


@pytest.mark.parametrize("state", ["dead", "left"])
def test_restart_at_a_new_address_goes_above_a_former_life_that_is_gone(state: str) -> None:
    driven = newcomer(another(5, state))
    driven.run(0.0)
    assert driven.hear(row("b")) == (row("a", "alive", 6),)
    assert not checks(driven)


@pytest.mark.parametrize("life", [OTHER_LIFE, life_of("a") - 1])
@pytest.mark.parametrize("incarnation", [0, 5])
def test_newcomer_asks_the_former_address_before_it_says_anything(incarnation: int, life: int) -> None:
    driven = newcomer(another(incarnation, life=life), own=member("a"))
    driven.silent = {"z"}
    driven.run(CHECKS * LAN.probe_timeout - 0.01)
    assert len(checks(driven)) == CHECKS
    assert driven.hear(row("b")) == ()
    driven.run(0.3)
    is_outranked = (incarnation, life) > (0, life_of("a"))
    assert driven.hear(row("b")) == (row("a", "alive", incarnation + 1 if is_outranked else 0),)
    assert driven.superseded is None


@pytest.mark.parametrize("life", [OTHER_LIFE, life_of("a") - 1])
def test_newcomer_gives_way_to_a_process_that_answers_at_the_former_address(life: int) -> None:
    driven = newcomer(another(0, life=life))
    driven.answers = lambda ask, peers=driven.answers: (
        ("a", ProbeReply(life, (another(0, life=life),))) if ask.address == address_of("z") else peers(ask)
    )
    driven.run(1.0)
    assert driven.superseded == Superseded(member("a", life=life, address=address_of("z")))
    assert driven.run(60.0) == [] and driven.core.deadline == float("inf")
    assert driven.core.on_tick(driven.now) == [] and driven.core.leave(driven.now) == []
    assert driven.hear(row("b")) == (), "it has no name to speak under"


def test_newcomer_does_not_give_way_to_a_process_that_is_just_leaving() -> None:
    driven = newcomer(another(0))
    driven.answers = lambda ask, peers=driven.answers: (
        ("a", ProbeReply(OTHER_LIFE, (another(0, "left"),))) if ask.address == address_of("z") else peers(ask)
    )
    driven.run(1.0)
    assert driven.superseded is None
    assert driven.hear(row("b")) == (row("a", "alive", 1),)


def test_member_gives_way_to_a_higher_claim_whose_process_answers() -> None:
    driven = joined("b", "c")
    driven.answers = answering(OTHER_LIFE)
    driven.hear(row("b"), another(2))
    assert driven.superseded == Superseded(Member("a", address_of("z"), "", OTHER_LIFE, 2, "alive"))
    reply, _ = driven.core.on_request(ProbeRequest("a", ()), "a", driven.now)
    assert reply == ProbeReply(OTHER_LIFE, ()), "who asks here whether the name is taken hears whose it is"


def test_member_passes_over_a_lower_claim() -> None:
    driven = joined("b", "c")
    driven.answers = answering(life_of("a") - 1)
    driven.hear(row("b"), another(0, life=life_of("a") - 1))
    driven.run(5.0)
    assert not checks(driven) and driven.superseded is None


@pytest.mark.parametrize("who", ["nobody", "another life", "another node", "this node itself"])
def test_member_is_not_made_to_quit_by_a_claim_that_nobody_stands_for(who: str) -> None:
    driven = joined("b", "c")
    answers = {
        "nobody": lambda ask: None if ask.address == address_of("z") else "peers",
        "another life": answering(4711),
        "another node": lambda ask: ("z", ProbeReply(OTHER_LIFE, ())) if ask.address == address_of("z") else "peers",
        "this node itself": answering(life_of("a")),
    }
    driven.answers = answers[who]
    driven.hear(row("b"), another(7))
    driven.run(CHECKS * LAN.probe_timeout + 0.1)
    assert driven.superseded is None
    assert driven.hear(row("b"))[0] == row("a", "alive", 8)
    assert len(checks(driven)) == (1 if who in ("another life", "this node itself") else CHECKS)


def test_repeated_claim_is_asked_about_once() -> None:
    driven = joined("b", "c")
    driven.silent = {"z"}
    for _ in range(15):
        driven.hear(row("b"), another(7))
        driven.run(0.1)
    driven.run(2.0)
    assert len(checks(driven)) == CHECKS


def test_several_claims_are_asked_about_one_after_another_and_not_too_many() -> None:
    driven = joined("b", "c")
    places = [f"z{number}" for number in range(CHECKS_WAITING + 4)]
    driven.silent = set(places)
    for number, place in enumerate(places):
        driven.hear(row("b"), another(7 + number, place=place))
    driven.run(60.0)
    asked = [place for place in places if checks(driven, place)]
    assert asked == places[:CHECKS_WAITING]
    assert driven.superseded is None
    assert driven.core.members["a"].incarnation == 7 + CHECKS_WAITING


def test_lie_does_not_keep_a_newcomer_from_seeing_who_has_its_name() -> None:
    driven = newcomer(another(3))
    driven.silent = {"liar"}
    driven.answers = lambda ask, peers=driven.answers: (
        ("a", ProbeReply(OTHER_LIFE, ())) if ask.address == address_of("z") else peers(ask)
    )
    driven.hear(row("b"), another(9, life=4711, place="liar"))
    driven.run(5.0)
    assert driven.superseded is not None and driven.superseded.by.life == OTHER_LIFE


def test_of_two_that_start_together_exactly_one_keeps_the_name() -> None:
    one, other = joined("b"), joined("b", own=member("a", life=OTHER_LIFE, address=address_of("z")))
    one.answers = answering(other.core.members["a"].life)
    other.answers = answering(one.core.members["a"].life, "a")
    [mine], [theirs] = one.hear(row("b")), other.hear(row("b"))
    one.hear(row("b"), theirs)
    other.hear(row("b"), mine)
    assert (one.superseded is None, other.superseded is None) == (False, True)
