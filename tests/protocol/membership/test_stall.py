"""A node whose process was stopped, or whose machine slept, judges nobody by what it has missed."""

from __future__ import annotations

import pytest

from p2pdl.protocol.messages import ProbeReply, ProbeRequest, SyncReply, SyncRequest
from tests.protocol.membership.driving import LAN, Driven, joined, life_of, name_at, row

OTHERS = tuple("bcdefghi")


def sleep(driven: Driven, seconds: float) -> None:
    """Nothing is called for so long; then the host goes on."""
    driven.now += seconds
    driven.perform(driven.core.on_tick(driven.now))


@pytest.mark.parametrize("seconds", [3.5, 60.0, 3600.0])
def test_node_that_was_stopped_suspects_nobody_for_it(seconds: float) -> None:
    driven = joined(*OTHERS)
    driven.silent = set(OTHERS)
    while not any(isinstance(ask.request, ProbeRequest) for ask in driven.run(0.05)):
        pass
    driven.silent = set()
    sleep(driven, seconds + 1.0)
    assert (driven.core.counters["stalls"], driven.core.health) == (1, 6)
    driven.run(60.0)
    assert not driven.changes and not driven.core.counters["accusations"]
    assert driven.core.health == 0


def test_node_that_was_stopped_compares_lists_at_once_and_contradicts_its_death() -> None:
    driven = joined(*OTHERS)
    theirs = (row("a", "dead", age=3000), row("c", "alive", 2))
    driven.answers = lambda ask: (
        (name_at(ask.address), SyncReply(1, (row(name_at(ask.address)), *theirs)))
        if isinstance(ask.request, SyncRequest) and not ask.request.members
        else "peers"
    )
    driven.now += 3600.0
    actions = driven.core.on_tick(driven.now)
    asked = [ask for ask in actions if isinstance(getattr(ask, "request", None), SyncRequest)]
    assert len(asked) >= LAN.fanout
    driven.perform(actions)
    assert driven.core.members["a"].incarnation == 1
    assert driven.core.members["c"].incarnation == 2
    assert [(it.member.name, it.previous_state) for it in driven.changes] == [("a", "dead")]
    assert driven.changes[0].reason == "others held this node for dead; it has contradicted"


def test_suspicions_of_a_node_that_was_stopped_last_as_much_longer() -> None:
    driven = joined(*OTHERS)
    driven.hear(row("b", "suspect", accuser="c"))
    driven.silent = {"b"}
    sleep(driven, 3600.0)
    assert driven.state_of("b") == "suspect"
    driven.run(LAN.shortest_suspicion(9) - 1.0)
    assert driven.state_of("b") == "suspect"
    driven.run(LAN.longest_suspicion(9))
    assert driven.state_of("b") == "dead"


def test_late_answer_to_a_probe_of_before_is_no_harm() -> None:
    driven = joined(*OTHERS)
    driven.silent = set(OTHERS)
    driven.run(1.1)
    [ask] = [ask for _, ask in driven.asked if not isinstance(ask.request, SyncRequest)][:1]
    target = name_at(ask.address)
    driven.silent = set()
    driven.now += 600.0
    driven.perform(driven.core.on_reply(ask.id, target, ProbeReply(life_of(target), (row(target),)), driven.now))
    sleep(driven, 0.0)
    driven.run(30.0)
    assert not driven.core.counters["accusations"]


def test_host_that_is_a_little_late_is_not_stopped() -> None:
    driven = joined(*OTHERS)
    for _ in range(200):
        driven.now = max(driven.now, driven.core.deadline + 1.5)
        driven.perform(driven.core.on_tick(driven.now))
    assert not driven.core.counters["stalls"] and not driven.core.counters["accusations"]


def test_sick_node_with_long_pauses_between_its_probes_is_not_stopped() -> None:
    driven = joined(*OTHERS)
    sleep(driven, 3600.0)
    driven.run(200.0)
    assert driven.core.counters["stalls"] == 1


def test_news_after_a_long_quiet_time_is_no_sign_of_a_stop() -> None:
    driven = joined(*OTHERS)
    driven.run(3600.0)
    driven.now += 0.1
    driven.hear(row("x"))
    driven.run(1.0)
    assert not driven.core.counters["stalls"]


def test_host_may_take_its_time_before_it_begins() -> None:
    driven = Driven(["b"])
    sleep(driven, 60.0)
    assert (driven.core.counters["stalls"], driven.core.health) == (0, 0)
