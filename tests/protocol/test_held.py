"""Held versions: at most two copies, and nobody's pull is broken by another's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2pdl.protocol.held import HELD_VERSIONS, LEASE_SECONDS, HeldVersions
from p2pdl.spec import Snapshot
from tests.protocol.nodes import PlainNode

VECTOR = np.zeros(16, np.float32)
PULLERS = st.sampled_from(["a", "b", "c", "d", "e"])


def version_of(snapshot: Snapshot | None) -> int | None:
    return snapshot.info.version if snapshot else None


def held_of(node: PlainNode, versions: int = 1) -> HeldVersions:
    for _ in range(versions):
        node.publish(VECTOR)
    return HeldVersions(node)


def test_newest_before_the_first_publication_is_none() -> None:
    held = HeldVersions(PlainNode())
    assert held.newest("a", 0.0) is None
    assert held.get(1, "a", 0.0) is None
    held.end_lease(1, "a")
    held.forget()


def test_newest_is_copied_once_for_everybody() -> None:
    node = PlainNode()
    held = held_of(node)
    snapshots = [held.newest(puller, 0.0) for puller in "abc"]
    assert [version_of(each) for each in snapshots] == [1, 1, 1]
    assert node.loads == 1


def test_newest_that_cannot_be_loaded_gives_the_one_before() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0)
    node.publish(VECTOR)
    node.load = lambda: None  # type: ignore[method-assign]
    assert version_of(held.newest("b", 0.0)) == 1


def test_newcomer_gets_the_newest_held_while_both_copies_are_being_pulled() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("slow", 0.0)
    node.publish(VECTOR)
    held.newest("other", 1.0)
    node.publish(VECTOR)
    assert version_of(held.newest("newcomer", 2.0)) == 2
    assert version_of(held.get(1, "slow", 3.0)) == 1
    held.end_lease(1, "slow")
    assert version_of(held.newest("fourth", 4.0)) == 3
    assert held.get(1, "slow", 4.0) is None
    assert version_of(held.get(2, "other", 4.0)) == 2


def test_lease_ends_after_silence_and_is_renewed_by_each_request() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0)
    node.publish(VECTOR)
    held.newest("b", 0.0)
    node.publish(VECTOR)
    held.get(1, "a", LEASE_SECONDS - 1)
    assert version_of(held.newest("c", LEASE_SECONDS + 1)) == 3
    assert held.get(2, "b", LEASE_SECONDS + 1) is None
    assert version_of(held.get(1, "a", LEASE_SECONDS + 1)) == 1


def test_lease_lasts_exactly_its_seconds() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0)
    node.publish(VECTOR)
    held.newest("b", 0.0)
    node.publish(VECTOR)
    assert version_of(held.newest("c", LEASE_SECONDS - 0.01)) == 2
    assert version_of(held.newest("c", LEASE_SECONDS)) == 3
    assert held.get(1, "a", LEASE_SECONDS) is None


def test_puller_that_asks_anew_lets_go_of_what_it_held() -> None:
    node = PlainNode()
    held = held_of(node)
    for version in range(1, 9):
        assert version_of(held.newest("a", 0.0)) == version
        node.publish(VECTOR)


def test_puller_that_asks_anew_makes_room_for_itself() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0)
    node.publish(VECTOR)
    held.newest("b", 0.0)
    node.publish(VECTOR)
    assert version_of(held.newest("a", 1.0)) == 3
    assert version_of(held.get(2, "b", 1.0)) == 2


def test_two_pulls_of_one_version_end_apart() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0)
    held.newest("b", 0.0)
    held.end_lease(1, "a")
    for _ in range(3):
        node.publish(VECTOR)
        held.newest("c", 1.0)
    assert version_of(held.get(1, "b", 2.0)) == 1


def test_forget_drops_everything() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0)
    held.forget()
    assert held.get(1, "a", 0.0) is None
    assert version_of(held.newest("a", 0.0)) == 1


def test_leased_is_what_a_request_of_the_puller_was_answered_with() -> None:
    node = PlainNode()
    held = held_of(node)
    assert held.leased("a", 0.0, 7) is None
    held.newest("a", 0.0, 7)
    node.publish(VECTOR)
    assert version_of(held.leased("a", 1.0, 7)) == 1
    assert held.leased("b", 1.0, 7) is None
    assert held.leased("a", 1.0, 8) is None
    held.newest("a", 2.0, 8)
    assert version_of(held.leased("a", 3.0, 8)) == 2
    assert held.leased("a", 3.0, 7) is None
    held.end_lease(1, "a")
    assert version_of(held.leased("a", 3.0, 8)) == 2
    held.end_lease(2, "a")
    assert held.leased("a", 3.0, 8) is None


def test_lease_renewed_by_version_belongs_to_the_same_request() -> None:
    held = held_of(PlainNode())
    held.newest("a", 0.0, 7)
    assert version_of(held.get(1, "a", 1.0)) == 1
    assert version_of(held.leased("a", 2.0, 7)) == 1
    held.end_lease(1, "a")
    assert version_of(held.get(1, "a", 3.0)) == 1
    assert held.leased("a", 4.0, 7) is None and held.leased("a", 4.0, 0) is None


def test_leased_renews_the_lease() -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("a", 0.0, 7)
    node.publish(VECTOR)
    held.newest("b", 0.0, 8)
    node.publish(VECTOR)
    assert version_of(held.leased("a", LEASE_SECONDS - 1, 7)) == 1
    assert version_of(held.newest("c", LEASE_SECONDS + 1)) == 3
    assert version_of(held.leased("a", LEASE_SECONDS + 1, 7)) == 1
    assert held.leased("b", LEASE_SECONDS + 1, 8) is None


def test_names_of_gone_pullers_do_not_pile_up() -> None:
    node = PlainNode()
    held = held_of(node)
    for number in range(1000):
        held.newest(f"puller{number}", 1.0 * number)
    assert len(held._held[1].leases) <= LEASE_SECONDS + 1


class HeldMachine(RuleBasedStateMachine):
    """Pullers come, go on, fall silent and finish while versions are published."""

    def __init__(self) -> None:
        super().__init__()
        self.node = PlainNode()
        self.held = HeldVersions(self.node)
        self.now = 0.0
        self.pulls: dict[str, tuple[int, float]] = {}

    def in_progress(self) -> dict[str, int]:
        """The version of each puller that has asked for something within the lease."""
        return {puller: version for puller, (version, until) in self.pulls.items() if until > self.now}

    @rule()
    def publish(self) -> None:
        self.node.publish(VECTOR)

    @rule(seconds=st.floats(0.1, LEASE_SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(puller=PULLERS)
    def begin(self, puller: str) -> None:
        busy = {version for other, version in self.in_progress().items() if other != puller}
        snapshot = self.held.newest(puller, self.now)
        assert (snapshot is None) == (not self.node.published)
        if snapshot is None:
            return
        version = snapshot.info.version
        if version != len(self.node.published):
            assert len(busy) == HELD_VERSIONS and version == max(busy)
        self.pulls[puller] = version, self.now + LEASE_SECONDS

    @rule(puller=PULLERS, ends=st.booleans())
    def go_on(self, puller: str, ends: bool) -> None:
        if puller not in self.pulls:
            return
        version, _ = self.pulls[puller]
        in_progress = puller in self.in_progress()
        snapshot = self.held.get(version, puller, self.now)
        if in_progress:
            assert snapshot is not None
        if snapshot is None or ends:
            self.held.end_lease(version, puller)
            del self.pulls[puller]
        else:
            assert snapshot.info.version == version
            self.pulls[puller] = version, self.now + LEASE_SECONDS

    @invariant()
    def copies_are_bounded_and_every_pull_in_progress_has_its_own(self) -> None:
        assert len(self.held._held) <= HELD_VERSIONS
        assert set(self.in_progress().values()) <= set(self.held._held)


HeldMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestHeldInAnyOrder = HeldMachine.TestCase


@pytest.mark.parametrize("pullers", [2, 5])
def test_fast_pullers_get_new_versions_while_a_slow_one_keeps_its_own(pullers: int) -> None:
    node = PlainNode()
    held = held_of(node)
    held.newest("slow", 0.0)
    seen = set()
    for step in range(1, 40):
        node.publish(VECTOR)
        for number in range(pullers):
            version = version_of(held.newest(f"fast{number}", 0.1 * step))
            assert version is not None
            seen.add(version)
            held.end_lease(version, f"fast{number}")
        assert version_of(held.get(1, "slow", 0.1 * step)) == 1
    assert len(seen) == 39
