"""Probes: everybody in turn, through relays if need be, stretched by the node's own health, saved where not needed."""

from __future__ import annotations

from collections import Counter

import pytest

from p2pdl.protocol.membership.actions import Ask
from p2pdl.protocol.messages import ProbeReply, ProbeRequest, Refusal, RelayedRequest, RelayRequest
from tests.protocol.membership.driving import Answer, address_of, joined, life_of, member, probes, relays, row


def test_each_interval_has_one_probe_and_each_pass_all_members() -> None:
    driven = joined("b", "c", "d", "e")
    asks = driven.run(40.0)
    targets = [ask.request.target for ask in asks if isinstance(ask.request, ProbeRequest)]
    assert len(targets) == 40 and all(abs(count - 10) <= 1 for count in Counter(targets).values())
    assert all(set(targets[place : place + 7]) == set("bcde") for place in range(34))
    assert {ask.address for ask in asks} == {address_of(name) for name in "bcde"}
    assert driven.core.counters["probes-failed"] == 0


def test_probes_of_a_node_alone_go_nowhere() -> None:
    driven = joined("b")
    driven.hear(row("b", "left"))
    driven.quiet()
    assert not probes(driven.run(20.0), "b")


def test_silent_member_is_asked_for_through_relays_then_suspected() -> None:
    driven = joined("b", "c", "d", "e", "f")
    driven.silent = {"b"}
    while not probes(driven.run(0.1), "b"):
        assert driven.state_of("b") == "alive"
    [first] = [moment for moment, ask in driven.asked if probes([ask], "b")]
    driven.run(first + 0.49 - driven.now)
    assert not relays(ask for _, ask in driven.asked)
    asked = relays(driven.run(0.02))
    assert len({ask.address for ask in asked}) == 3 and address_of("b") not in {ask.address for ask in asked}
    assert {ask.request.address for ask in asked if isinstance(ask.request, RelayRequest)} == {address_of("b")}
    driven.run(first + 0.99 - driven.now)
    assert driven.state_of("b") == "alive"
    driven.run(0.02)
    assert driven.state_of("b") == "suspect"
    assert driven.core.health == 0, "the relays have answered, so the fault is not here"
    assert driven.core.known["b"].error.startswith("no answer from host-b:7101 within 1 s, nor through ")


@pytest.mark.parametrize("right", ["sequence", "target", "sender", "all"])
def test_relay_that_has_reached_the_member_ends_the_probe(right: str) -> None:
    driven = joined("b", "c", "d")
    driven.silent = {"b"}

    def answers(ask: Ask) -> Answer | str:
        if isinstance(ask.request, RelayRequest):
            request = ask.request
            word = RelayedRequest(
                request.target if right != "target" else "c",
                request.sequence if right != "sequence" else request.sequence + 1,
                (row("c"), row("b")),
            )
            driven.perform(driven.core.on_request(word, "c" if right != "sender" else "x", driven.now)[1])
        return "peers"

    driven.answers = answers
    driven.run(12.0)
    assert (driven.state_of("b") == "alive") == (right == "all")
    assert bool(driven.core.counters["probes-relayed"]) == (right == "all")


def test_late_answer_to_the_first_question_counts_while_relays_are_asked() -> None:
    driven = joined("b", "c")
    late: list[Ask] = []
    driven.answers = lambda ask: late.append(ask) if probes([ask], "b") else "peers"  # type: ignore[func-returns-value]
    while not late:
        driven.run(0.05)
    driven.run(0.7)
    driven.perform(driven.core.on_reply(late[0].id, "b", ProbeReply(life_of("b"), (row("b"),)), driven.now))
    driven.answers = lambda ask: "peers"
    driven.run(5.0)
    assert (driven.state_of("b"), driven.core.counters["probes-failed"]) == ("alive", 0)


def test_relays_that_are_silent_say_that_this_node_is_slow() -> None:
    driven = joined("b", "c", "d", "e", "f")
    driven.silent = set("bcdef")
    driven.run(2.1)
    assert driven.core.counters["probes-failed"] == 1
    assert driven.core.health == 3


def test_health_stretches_intervals_and_timeouts_and_heals_with_answers() -> None:
    driven = joined("b", "c", "d", "e", "f")
    driven.now += 3600.0
    driven.perform(driven.core.on_tick(driven.now))
    assert driven.core.health == 6, "the worst, and one answer already"
    driven.run(50.0)
    moments = [moment for moment, ask in driven.asked if isinstance(ask.request, ProbeRequest)]
    gaps = [round(later - earlier) for earlier, later in zip(moments, moments[1:], strict=False)]
    assert gaps[:9] == [8, 7, 6, 5, 4, 3, 2, 1, 1]
    assert driven.core.health == 0


def test_time_of_relays_is_counted_from_when_they_are_asked() -> None:
    driven = joined("b", "c", "d")
    driven.silent = {"b"}
    while not probes(driven.run(0.05), "b"):
        pass
    driven.now += 1.5
    driven.perform(driven.core.on_tick(driven.now))
    assert relays(ask for _, ask in driven.asked)
    assert driven.state_of("b") == "alive", "a host that was late has left no time for the relays"
    driven.run(0.45)
    assert driven.state_of("b") == "alive"
    driven.run(0.1)
    assert driven.state_of("b") == "suspect"


def test_member_that_was_heard_is_not_probed_once_but_then_it_is() -> None:
    driven = joined("b", "c")
    for _ in range(200):
        driven.core.on_heard("b", driven.now)
        driven.run(0.1)
    counted = Counter(ask.request.target for _, ask in driven.asked if isinstance(ask.request, ProbeRequest))
    assert counted["b"] == pytest.approx(counted["c"] / 2, abs=2)
    assert driven.core.counters["probes-saved"] == pytest.approx(counted["b"], abs=2)


def test_member_that_is_heard_but_does_not_answer_is_suspected_all_the_same() -> None:
    driven = joined("b", "c")
    driven.silent = {"b"}
    for _ in range(100):
        driven.core.on_heard("b", driven.now)
        driven.run(0.1)
    assert driven.state_of("b") == "suspect"


def test_heard_of_a_stranger_means_nothing() -> None:
    driven = joined("b")
    driven.core.on_heard("stranger", driven.now)
    assert "stranger" not in driven.core.known
    assert driven.run(3.0)


@pytest.mark.parametrize(
    "answer",
    [
        ("c", ProbeReply(life_of("c"), (row("c"),))),
        ("b", Refusal("internal", "the server failed")),
        ("b", ProbeRequest("a", ())),
    ],
)
def test_answer_of_another_node_a_refusal_and_nonsense_are_no_answers(answer: Answer) -> None:
    driven = joined("b", "c")
    driven.answers = lambda ask: answer if ask.address == address_of("b") else "peers"
    driven.run(4.0)
    assert driven.state_of("b") == "suspect"
    counters = driven.core.counters
    assert counters["wrong-node"] + counters["replies-refused"] + counters["replies-wrong"] > 0
    assert driven.state_of("c") == "alive"


def test_error_of_a_wrong_node_names_address_and_node() -> None:
    driven = joined("b", "c")
    driven.answers = lambda ask: ("c", ProbeReply(life_of("c"), ())) if ask.address == address_of("b") else "peers"
    while not driven.core.counters["wrong-node"]:
        driven.run(0.1)
    assert driven.core.known["b"].error == "host-b:7101 is another node: c"


@pytest.mark.parametrize("answer", [("c\x1b[2J\n", ProbeReply(1, ())), ("b", Refusal("internal", "\x1b[2J\nfailed"))])
def test_errors_for_people_hold_nothing_but_printable_text(answer: Answer) -> None:
    driven = joined("b", "c")
    driven.answers = lambda ask: answer if ask.address == address_of("b") else "peers"
    while not driven.core.known["b"].error:
        driven.run(0.1)
    assert driven.core.known["b"].error.isprintable() and "?[2J?" in driven.core.known["b"].error


def test_member_that_moves_during_a_probe_is_not_suspected_for_its_old_address() -> None:
    driven = joined("b", "c")
    driven.silent = {"b"}
    while not probes(driven.run(0.05), "b"):
        pass
    driven.hear(row("b", incarnation=1, address="host-z:7101", life=7))
    driven.answers = lambda ask: ("b", ProbeReply(7, ())) if ask.address == "host-z:7101" else "peers"
    driven.run(10.0)
    assert driven.core.members["b"] == member("b", "alive", 1, address="host-z:7101", life=7)
    assert not driven.core.counters["accusations"]
