"""Simulated memberships in which two processes have one name, or a member lies: nobody is ended or locked out by it."""

from __future__ import annotations

import math

import pytest

from p2pdl.protocol.membership.identity import RAISE_LIMIT
from p2pdl.protocol.membership.members import Member, Row, to_row
from p2pdl.protocol.messages import ProbeRequest, SyncRequest
from p2pdl.simulation.membership import MembershipCluster, present
from tests.simulation.member_clusters import HEALING_SECONDS, LAN, found, incarnations


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
