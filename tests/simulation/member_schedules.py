"""Random schedules of faults for a simulated membership; a seed makes one of them, and the same again."""

from __future__ import annotations

import math

import numpy as np

from p2pdl.protocol.membership.presets import PRESETS
from p2pdl.simulation.membership import MembershipCluster

FAULTS = ("crash", "start", "leave", "move", "pause", "go on", "cut", "cut one way", "mend", "loss", "delay")


def run_schedule(seed: int, count: int, lateness: float = 0.0, preset: str = "lan") -> float:
    """Run one schedule and check what must hold.

    Args:
        seed: Makes the schedule and every chance in it.
        count: Nodes.
        lateness: Seconds by which hosts may be late.
        preset: Times.

    Returns:
        Seconds after the end of the faults until all agreed.

    Raises:
        AssertionError: With the seed, the number of nodes and the faults.
    """
    schedule = Schedule(seed, count, lateness, preset)
    try:
        return schedule.run()
    except AssertionError as error:
        story = ", ".join(schedule.story)
        raise AssertionError(f"run_schedule({seed}, {count}, {lateness}, {preset!r}): {error}; {story}") from error


class Schedule:
    """See `run_schedule`.

    Attributes:
        story: The faults so far.
    """

    def __init__(self, seed: int, count: int, lateness: float, preset: str) -> None:
        self.story: list[str] = []
        self._rng = np.random.default_rng([seed, 3])
        self._cluster = MembershipCluster(count, PRESETS[preset], seed, is_encoded=False, lateness=lateness)
        self._moves = 0
        self._highest: dict[tuple[int, str], tuple[int, int]] = {}

    def run(self) -> float:
        """Faults, an end of them, agreement, and agreement for good."""
        cluster = self._cluster
        cluster.run(10.0)
        for _ in range(int(self._rng.integers(3, 14))):
            self._do(str(self._rng.choice(FAULTS)))
            cluster.run_until(self._check, float(self._rng.choice([0.3, 2.0, 10.0, 40.0])))
        cluster.heal()
        # The next attempt at reaching those that are held for dead, and a suspicion of one that has just died.
        settings = cluster.settings
        longest = 1.25 * settings.dead_contact + settings.longest_suspicion(len(cluster.contacts)) + 20.0
        took = cluster.run_until(lambda: self._check() or cluster.agrees(), longest)
        assert took < math.inf, f"no agreement among {[it.name for it in cluster.running]}"
        cluster.run_until(self._check, 20.0)
        assert cluster.agrees(), "agreement did not last"
        gone = {name for it in cluster.running for name, at in it.core.members.items() if at.is_gone}
        assert not gone & {it.name for it in cluster.running}, "a node that runs is held for dead"
        return took

    def _check(self) -> bool:
        for number, process in enumerate(self._cluster.processes):
            assert process.superseded is None, f"{process.name} was made to quit"
            for name, member in process.core.members.items():
                claim = member.incarnation, member.life
                assert claim >= self._highest.get((number, name), (0, 0)), f"{process.name} went back about {name}"
                self._highest[number, name] = claim
        return False

    def _do(self, fault: str) -> None:
        cluster, rng = self._cluster, self._rng
        running = [it.name for it in cluster.running]
        stopped = [name for name in cluster.contacts if name not in running]
        name = str(rng.choice(running))
        # Who starts at a moment when all others have moved must be told where one of them is.
        others = [cluster.members[other].address for other in running if other != name]
        self.story.append(f"{fault} {name} at {cluster.now:.1f} s")
        match fault:
            case "crash" if len(running) > 2:
                cluster.stop(name)
            case "leave" if len(running) > 2:
                cluster.leave(name)
            case "start" if stopped:
                cluster.start(str(rng.choice(stopped)), join=others[:1])
            case "move":
                self._moves += 1
                cluster.stop(name)
                cluster.start(name, f"10.1.0.{self._moves}:7101", join=others[:1])
            case "pause":
                cluster.members[name].pause()
            case "go on":
                for it in cluster.running:
                    if it.is_paused:
                        it.go_on()
            case "cut" | "cut one way":
                order = [str(it) for it in rng.permutation(running)]
                place = int(rng.integers(len(order)))
                cluster.cut(order[:place], order[place:], both_ways=fault == "cut")
            case "mend":
                cluster.network.faults.cut.clear()
            case "loss":
                cluster.network.faults.loss = float(rng.choice([0.0, 0.05, 0.2, 0.5]))
            case "delay":
                cluster.network.faults.delay = (0.0, float(rng.choice([0.001, 0.1, 0.5, 2.0])))
