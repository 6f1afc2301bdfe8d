"""Simulated memberships: who is found, given up, taken back and believed, under every fault that the network has."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from p2pdl.protocol.membership.identity import RAISE_LIMIT
from p2pdl.protocol.membership.members import Member, Row, to_row
from p2pdl.protocol.membership.presets import PRESETS
from p2pdl.protocol.messages import ProbeRequest, SyncRequest
from p2pdl.simulation.membership import MembershipCluster, present
from tests.simulation.member_schedules import run_schedule

LAN = PRESETS["lan"]

JOINING_SECONDS = 10.0
"""Within which all nodes of a file know each other, if they start within one second."""

HEALING_SECONDS = 1.25 * LAN.dead_contact + 10.0
"""Within which two halves that meet again agree: one attempt at reaching each other, and the time of a rumour."""


def found(count: int, seed: int = 0, is_encoded: bool = True, lateness: float = 0.0) -> MembershipCluster:
    """A cluster whose nodes know each other and have nothing to tell any more."""
    cluster = MembershipCluster(count, LAN, seed, is_encoded, lateness=lateness)
    everybody = cluster.run_until(lambda: len(cluster.running) == count and cluster.agrees(), JOINING_SECONDS)
    assert everybody < math.inf
    cluster.run(20.0)
    return cluster


def halves(cluster: MembershipCluster) -> tuple[list[str], list[str]]:
    names = sorted(cluster.members)
    return names[::2], names[1::2]


def incarnations(cluster: MembershipCluster) -> set[int]:
    return {member.incarnation for it in cluster.running for member in it.core.members.values()}


def traffic(cluster: MembershipCluster, seconds: float) -> tuple[float, float]:
    """Bytes that a node sends in a second: the mean, and the most of any node."""
    before = {it.name: it.sent_nbytes for it in cluster.running}
    cluster.run(seconds)
    rates = [(it.sent_nbytes - before[it.name]) / seconds for it in cluster.running]
    return float(np.mean(rates)), max(rates)


@pytest.mark.parametrize("count", [1, 2, 3, 32])
def test_nodes_of_one_file_find_each_other_and_nobody_is_suspected(count: int) -> None:
    cluster = found(count)
    cluster.run(120.0)
    assert cluster.agrees()
    assert not cluster.changes("suspect") and not cluster.changes("dead")
    assert incarnations(cluster) == {0}


def test_node_that_is_told_one_address_finds_all_and_is_found() -> None:
    cluster = found(8)
    cluster.start("newcomer", "10.9.9.9:7101", contacts={}, join=[cluster.contacts["node5"]])
    assert cluster.run_until(cluster.agrees, 5.0) < math.inf


@pytest.mark.parametrize("count", [2, 8, 32])
def test_death_is_known_everywhere_within_three_times_the_theoretical_time(count: int) -> None:
    """The theoretical time is `shortest_suspicion`: what a suspect of which all know at once has to refute it.

    To it come the time until somebody probes the node, about one interval, the interval of that probe, and the time of
    the rumours, some gossip intervals.
    """
    for seed in range(2):
        cluster = found(count, seed, is_encoded=False)
        cluster.stop("node1")
        assert cluster.run_until(cluster.agrees, 3 * LAN.shortest_suspicion(count), 0.2) < math.inf, seed
        for it in cluster.running:
            known = it.core.known["node1"]
            assert known.member.state == "dead" and known.error
        assert {change.member.name for _, _, change in cluster.changes("suspect")} == {"node1"}
        cluster.run(60.0)
        assert cluster.agrees()


@pytest.mark.parametrize("loss, lateness", [(0.05, 0.0), (0.0, 0.45), (0.05, 0.3)])
def test_lost_messages_and_late_hosts_cost_no_node_its_life(loss: float, lateness: float) -> None:
    cluster = found(32, is_encoded=False, lateness=lateness)
    cluster.network.faults.loss = loss
    cluster.network.faults.delay = (0.0, 0.02)
    cluster.run(180.0)
    assert not cluster.changes("dead")
    if loss:
        assert sum(it.core.counters["probes-relayed"] for it in cluster.running) > 100
    cluster.network.faults.loss = 0.0
    assert cluster.run_until(cluster.agrees, 10.0) < math.inf


def test_traffic_of_a_quiet_node_does_not_depend_on_their_number() -> None:
    rates = []
    for count in (8, 48):
        mean, most = traffic(found(count), 60.0)
        rates.append(mean)
        assert most < 1.2 * mean
    assert max(rates) < 1.2 * min(rates)
    assert max(rates) < 400


def test_node_that_says_goodbye_is_not_suspected() -> None:
    cluster = found(16)
    cluster.leave("node3")
    assert cluster.run_until(cluster.agrees, 3.0, 0.1) < math.inf
    cluster.run(60.0)
    assert {it.core.members["node3"].state for it in cluster.running} == {"left"}
    assert not cluster.changes("suspect")


@pytest.mark.parametrize("address", ["", "10.9.9.9:7101"])
@pytest.mark.parametrize("pause", [0.0, 60.0])
def test_node_that_starts_again_is_taken_over_with_its_address_in_one_change(address: str, pause: float) -> None:
    cluster = found(8)
    cluster.stop("node3")
    cluster.run(pause)
    cluster.start("node3", address)
    before = {it.name: len(it.log) for it in cluster.running}
    assert cluster.run_until(cluster.agrees, 10.0, 0.1) < math.inf
    cluster.run(30.0)
    for it in cluster.running:
        changes = [change for _, change in it.log[before[it.name] :] if change.member.name == "node3"]
        # While it asks at its former address, a probe there may fail.
        reasons = [change.reason for change in changes if change.member.state != "suspect"]
        moved = " at 10.9.9.9:7101 instead of 10.0.0.3:7101" if address else ""
        assert reasons == ([] if it.name == "node3" else [f"it has started again{moved}"])


@pytest.mark.parametrize("seconds", [30.0, 3600.0])
def test_node_that_was_stopped_wakes_up_and_nobody_else_is_given_up(seconds: float) -> None:
    cluster = found(4, is_encoded=False)
    cluster.members["node2"].pause()
    cluster.run(seconds)
    assert {it.core.members["node2"].state for it in cluster.running if it.name != "node2"} == {"dead"}
    cluster.heal()
    assert cluster.run_until(cluster.agrees, 5.0, 0.1) < math.inf
    cluster.run(60.0)
    assert {change.member.name for _, _, change in cluster.changes("suspect")} == {"node2"}
    assert [change.previous_state for _, by, change in cluster.changes("alive") if by == change.member.name] == ["dead"]


def test_halves_that_meet_again_agree_and_nobody_dies_of_it() -> None:
    for count, seed in ((8, 0), (32, 1)):
        cluster = found(count, seed, is_encoded=False)
        cluster.cut(*halves(cluster))
        cluster.run(90.0)
        for half in halves(cluster):
            assert all(sorted(present(cluster.members[name].core)) == half for name in half)
        deaths = len(cluster.changes("dead"))
        cluster.heal()
        assert cluster.run_until(cluster.agrees, HEALING_SECONDS, 0.1) < math.inf
        cluster.run(30.0)
        assert cluster.agrees() and len(cluster.changes("dead")) == deaths


def test_node_that_one_other_cannot_reach_stays_alive_through_relays() -> None:
    cluster = found(6, is_encoded=False)
    cluster.cut(["node0"], ["node1"], both_ways=False)
    cluster.run(600.0)
    assert cluster.agrees() and not cluster.changes("dead")
    assert len(cluster.changes("suspect")) <= 600 / 5, "once in a pass at most"
    assert cluster.members["node0"].core.counters["probes-relayed"] > 50


def test_second_process_of_a_name_gives_way_and_the_first_goes_on() -> None:
    cluster = found(5)
    first = cluster.members["node3"]
    second = cluster.start("node3", "10.9.9.9:7101")
    cluster.run(10.0)
    assert second.superseded is not None and second.superseded.by.address == first.address
    assert first.is_running and first.superseded is None and cluster.agrees()
    assert not [change for _, by, change in cluster.changes("alive") if change.member.address == second.address]


def test_two_halves_with_a_process_each_of_one_name_keep_exactly_one() -> None:
    for seed in range(4):
        cluster = found(6, seed, is_encoded=False)
        cluster.cut(["node0", "node1", "node2", "node3"], ["node4", "node5"])
        cluster.run(60.0)
        first = cluster.members["node3"]
        second = cluster.start("node3", "10.9.9.9:7101", contacts={"node4": cluster.contacts["node4"]})
        cluster.cut(["node0", "node1", "node2"], ["node3"])
        cluster.network.faults.cut |= {(first.address, second.address), (second.address, first.address)}
        cluster.run(60.0)
        assert first.is_running and second.is_running
        cluster.heal()
        assert cluster.run_until(cluster.agrees, 2 * HEALING_SECONDS) < math.inf
        assert first.is_running != second.is_running


def lies(cluster: MembershipCluster, liar: str, row: Row) -> None:
    """A node tells everybody something that its core would not say."""
    for it in cluster.running:
        if it.name != liar:
            cluster.members[liar].tell(it.address, ProbeRequest(it.name, (row,)))
            cluster.members[liar].tell(it.address, SyncRequest(0, (row,)))


def row_of(cluster: MembershipCluster, name: str, **changes: object) -> Row:
    own = cluster.members[name].core.members[name]
    fields = {field: getattr(own, field) for field in Member.__dataclass_fields__}
    return to_row(Member(**{**fields, **changes}), accuser="node1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "10.9.9.9:7101"},
        {"address": "10.0.0.4:7101", "incarnation": 5},
        {"state": "dead"},
        {"state": "left", "incarnation": 3},
        {"state": "suspect", "incarnation": RAISE_LIMIT},
        {"state": "dead", "incarnation": RAISE_LIMIT},
        {"state": "dead", "incarnation": RAISE_LIMIT + 1},
        {"state": "left", "incarnation": 2**63 - 1},
        {"life": 2**64 - 1},
        {"life": 2**64 - 1, "address": "10.9.9.9:7101", "incarnation": 9},
        {"life": 2**64 - 1, "address": "10.0.0.4:7101", "incarnation": RAISE_LIMIT},
        {"life": 0, "state": "dead", "incarnation": 2**62},
    ],
    ids=str,
)
def test_member_about_which_another_lies_is_heard_again(changes: dict[str, object]) -> None:
    cluster = found(6)
    lies(cluster, "node2", row_of(cluster, "node3", **changes))
    cluster.run(10.0)
    assert cluster.run_until(cluster.agrees, 30.0) < math.inf
    assert cluster.members["node3"].is_running


def test_member_whose_incarnation_is_raised_again_and_again_is_not_locked_out() -> None:
    cluster = found(6)
    for step in range(1, 30):
        # In steps that each node takes, faster than the member can follow.
        lies(cluster, "node2", row_of(cluster, "node3", state="dead", incarnation=step * RAISE_LIMIT))
        cluster.run(0.05)
    cluster.start("newcomer", "10.9.9.9:7101")
    assert cluster.run_until(cluster.agrees, 60.0) < math.inf
    assert max(incarnations(cluster)) < 100 * RAISE_LIMIT


def test_stranger_without_its_key_on_the_list_does_not_enter() -> None:
    keys = {f"node{number}": f"{number}" * 64 for number in range(5)}
    cluster = MembershipCluster(0, LAN)
    cluster.contacts |= {name: f"{name}:7101" for name in keys}
    for name in keys:
        cluster.start(name, keys=keys)
    assert cluster.run_until(cluster.agrees, 10.0) < math.inf
    stranger = cluster.start("stranger", "10.9.9.9:7101", keys={"stranger": "f" * 64})
    cluster.run(30.0)
    assert {name for it in cluster.running for name in present(it.core) if it is not stranger} == keys.keys()
    assert sum(it.core.counters["refused-key"] for it in cluster.running) > 0


def test_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[tuple[float, str, object]]:
        cluster = found(8, seed, lateness=0.2)
        cluster.network.faults.loss = 0.2
        cluster.run(30.0)
        cluster.stop("node1")
        cluster.run(30.0)
        return [*cluster.changes("suspect"), *cluster.changes("dead"), *cluster.changes("alive")]

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize("count, lateness", [(3, 0.0), (5, 0.0), (8, 0.3)])
def test_random_schedules_of_faults_end_in_agreement(count: int, lateness: float) -> None:
    for seed in range(8):
        assert run_schedule(seed, count, lateness) < math.inf


@pytest.mark.slow
@pytest.mark.parametrize(
    "count, lateness, preset", [(4, 0.0, "lan"), (6, 0.0, "local"), (9, 0.3, "lan"), (6, 0.0, "wan")]
)
def test_many_random_schedules_of_faults_end_in_agreement(count: int, lateness: float, preset: str) -> None:
    for seed in range(1000, 1100):
        assert run_schedule(seed, count, lateness, preset) < math.inf


@pytest.mark.slow
def test_death_among_256_is_known_everywhere_within_three_times_the_theoretical_time() -> None:
    """Theoretical: 4 log10(256) probe intervals, 9.6 s."""
    cluster = found(256, is_encoded=False)
    for name in ("node7", "node77", "node177"):
        cluster.stop(name)
        assert cluster.run_until(cluster.agrees, 3 * LAN.shortest_suspicion(256), 0.1) < math.inf
        cluster.run(30.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hour_with_lost_messages_costs_none_of_256_nodes_its_life() -> None:
    cluster = found(256, is_encoded=False)
    cluster.network.faults.loss = 0.05
    cluster.network.faults.delay = (0.0, 0.01)
    cluster.run(3600.0)
    assert not cluster.changes("dead")
    states = Counter(member.state for it in cluster.running for member in it.core.members.values())
    assert states["alive"] > 0.99 * 256 * 256
    cluster.network.faults.loss = 0.0
    assert cluster.run_until(cluster.agrees, 30.0) < math.inf


@pytest.mark.slow
def test_traffic_of_a_quiet_node_is_the_same_among_8_and_among_256() -> None:
    rates = [traffic(found(count), 120.0)[0] for count in (8, 32, 128, 256)]
    assert max(rates) < 1.2 * min(rates), rates


@pytest.mark.slow
def test_halves_of_128_nodes_that_meet_again_agree_and_nobody_dies_of_it() -> None:
    cluster = found(128, is_encoded=False)
    cluster.cut(*halves(cluster))
    cluster.run(90.0)
    deaths = len(cluster.changes("dead"))
    cluster.heal()
    assert cluster.run_until(cluster.agrees, HEALING_SECONDS, 0.1) < math.inf
    cluster.run(30.0)
    assert cluster.agrees() and len(cluster.changes("dead")) == deaths
