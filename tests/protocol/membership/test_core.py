"""The core as a whole: what a host calls, leaving, and what it costs."""

from __future__ import annotations

import time

import pytest

from p2pdl.protocol.membership.actions import Ask, Changed
from p2pdl.protocol.membership.core import Membership
from p2pdl.protocol.messages import ProbeReply, ProbeRequest, SyncReply, SyncRequest
from tests.protocol.membership.driving import LAN, Driven, joined, life_of, member, row

OTHERS = tuple("bcdefghij")
QUIET_SECONDS = 400
LARGEST_COST = 100e-6


def test_leaving_tells_several_members_at_once_and_is_the_last_word() -> None:
    driven = joined(*OTHERS)
    actions = driven.core.leave(driven.now)
    asks = [ask for ask in actions if isinstance(ask, Ask)]
    assert len(asks) == len(actions) == len({ask.address for ask in asks}) == 2 * LAN.fanout
    for ask in asks:
        assert isinstance(ask.request, ProbeRequest) and ask.request.rumours[0] == row("a", "left")
    assert driven.core.deadline == float("inf")
    assert driven.core.on_tick(driven.now + 100.0) == [] and driven.core.leave(driven.now) == []
    assert driven.core.on_reply(asks[0].id, "b", ProbeReply(life_of("b"), ()), driven.now) == []


def test_node_that_has_left_still_says_so_and_contradicts_nothing() -> None:
    driven = joined(*OTHERS)
    driven.core.leave(driven.now)
    told = driven.hear(row("b"), row("a", "dead", 3))
    assert told[0] == row("a", "left")
    assert row("a", "left") in driven.sync().members


def test_word_of_leaving_is_heard_and_passed_on() -> None:
    leaver, other = joined("b", "c", "d"), joined("a", "c", "d", own=member("b"))
    [ask] = [it for it in leaver.core.leave(leaver.now) if isinstance(it, Ask) and it.address == "host-b:7101"]
    assert isinstance(ask.request, ProbeRequest)
    reply, actions = other.core.on_request(ask.request, "a", other.now)
    assert actions == [Changed(member("a", "left"), "alive", "it has said goodbye")]
    assert isinstance(reply, ProbeReply)
    other.run(1.0)
    told = {it.address for _, it in other.asked if isinstance(it.request, ProbeRequest) and len(it.request.rumours) > 1}
    assert told == {"host-c:7101", "host-d:7101"}


def test_newcomer_that_leaves_before_it_has_joined_has_nothing_to_say() -> None:
    driven = Driven(["b"])
    driven.hear(row("b"))
    assert driven.core.leave(driven.now) == []
    assert driven.hear(row("b")) == () and driven.run(60.0) == []


def test_known_and_members_follow_the_changes() -> None:
    driven = Driven(["b"])
    known, members = driven.core.known, driven.core.members
    driven.hear(row("b"), row("x", "dead", age=10))
    assert {name: (it.member.state, it.error) for name, it in known.items()} == {
        "a": ("alive", ""),
        "b": ("alive", ""),
        "x": ("dead", "other members have given it up"),
    }
    assert known["x"].since == driven.now - 10
    assert members == {name: it.member for name, it in known.items()}
    assert driven.core.counters["now-alive"] == driven.core.counters["now-dead"] == 1


def test_views_cannot_be_written_to() -> None:
    driven = Driven(["b"])
    with pytest.raises(TypeError):
        driven.core.known["x"] = driven.core.known["b"]  # type: ignore[index]
    with pytest.raises(TypeError):
        driven.core.members["x"] = member("x")  # type: ignore[index]


def test_same_seed_gives_the_same_questions() -> None:
    def run(seed: int) -> list[tuple[float, Ask]]:
        driven = joined(*OTHERS, seed=seed)
        driven.silent = {"c", "e"}
        driven.run(100.0)
        return driven.asked

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_quiet_member_costs_little() -> None:
    driven = joined(*OTHERS)
    core = driven.core
    digest = driven.sync().digest
    fastest = float("inf")
    for _ in range(10):
        started = time.thread_time()
        for _ in range(QUIET_SECONDS):
            _pass_a_second(core, driven, digest)
        fastest = min(fastest, (time.thread_time() - started) / QUIET_SECONDS)
        if fastest < LARGEST_COST:
            break
    assert not core.counters["accusations"] and core.counters["probes"] >= QUIET_SECONDS
    assert fastest < LARGEST_COST, f"{1e6 * fastest:.0f} us of a processor for each second"


def _pass_a_second(core: Membership, driven: Driven, digest: int) -> None:
    """One probe from here, one from there, and what is due besides."""
    until = driven.now + 1.0
    core.on_request(ProbeRequest("a", (row("c"),)), "c", driven.now)
    while core.deadline <= until:
        driven.now = core.deadline
        for ask in core.on_tick(driven.now):
            if isinstance(ask, Ask) and isinstance(ask.request, ProbeRequest):
                name = ask.request.target
                core.on_reply(ask.id, name, ProbeReply(life_of(name), (row(name),)), driven.now)
            elif isinstance(ask, Ask) and isinstance(ask.request, SyncRequest):
                core.on_reply(ask.id, "b", SyncReply(digest, ()), driven.now)
    driven.now = until
