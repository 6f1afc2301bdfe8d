"""ADSP, adaptive synchronous parallel: nobody waits, and all workers make the same number of commits.

Hu, Wang, Wu, "Distributed machine learning through heterogeneous edge systems" (2020): in a check period of G seconds
worker i, with c_i commits so far, makes C_target - c_i more, on a timer of G / (C_target - c_i).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from p2pdl.synchronisation.commit_search import CommitSearch
from p2pdl.synchronisation.windowed import Windowed
from p2pdl.types import NodeId

DEFAULT_CHECK_PERIOD = 60.0
"""Seconds of a check period unless told otherwise."""

DEFAULT_SEARCH_WINDOW = 60.0
"""Seconds for which the search runs a value unless told otherwise."""

DEFAULT_SEARCH_PERIOD = 1200.0
"""Seconds from one search to the next unless told otherwise."""


class Adsp(Windowed):
    """Workers train on between commits, and accumulate; a push is a commit.

    At the start of a check period C_target is what was due by then, and the search's number more; nothing counts as due
    that is more than one beyond the worker with the most commits, so that C_target does not run away from slow ones.
    The n commits of a worker are due after 1/n, 2/n ... of the period, so that time lost with one is made up by the
    next. The end of a period is a moment, not an event: the first call after it begins the next one. A change of the
    search's number begins one at once. A newcomer counts as if it had made the commits of the period so far on time.

    Args:
        search: Finds the commits of a period.
        check_period: G in seconds, above 0.
        low: The first iteration.

    Raises:
        ValueError: The period is not above 0, or `low` is negative.
    """

    name = "adsp"

    def __init__(self, search: CommitSearch, check_period: float = DEFAULT_CHECK_PERIOD, low: int = 0) -> None:
        if not 0.0 < check_period < math.inf:
            raise ValueError(f"the check period must be above 0 s, not {check_period}")
        super().__init__(None, low)
        self._search = search
        self._period = check_period
        self._start = -math.inf
        self._rate = 0
        self._base = 0
        self._commits: dict[NodeId, int] = {}
        self._commits_at_start: dict[NodeId, int] = {}

    def join(self, worker: NodeId, now: float) -> int:
        """Take a worker in at `low`, with as many commits to make as are left of the period."""
        clock = super().join(worker, now)
        self._check(now)
        self._commits_at_start[worker] = self._base
        self._commits[worker] = self._expected(now)
        return clock

    def push(self, worker: NodeId, clock: int, loss: float, now: float) -> None:
        """Count a commit, and show its loss to the search.

        Raises:
            PeerRefused: `not-joined`, `outside-window` or `other-iteration`.
        """
        super().push(worker, clock, loss, now)
        self._search.observe(loss, now)
        self._check(now)
        self._commits[worker] += 1

    def leave(self, worker: NodeId, now: float) -> None:
        """Let the worker and its commits go."""
        super().leave(worker, now)
        self._commits.pop(worker, None)
        self._commits_at_start.pop(worker, None)

    def commit_in(self, worker: NodeId, now: float) -> float | None:
        """Seconds until the worker's next commit is due, 0 where it is late.

        Raises:
            PeerRefused: `not-joined`.
        """
        super().commit_in(worker, now)
        self._check(now)
        at_start = self._commits_at_start[worker]
        next_one = self._commits[worker] + 1 - at_start
        due = self._start + next_one * self._period / max(1, self._base + self._rate - at_start)
        return max(0.0, due - now)

    def figures(self) -> Mapping[str, float]:
        """Beside the common ones: the commits of a period, C_target, and the least and most that a worker has made."""
        made = self._commits.values()
        return {
            **super().figures(),
            "commits_per_period": self._rate,
            "commits_target": self._base + self._rate,
            "commits_least": min(made, default=0),
            "commits_most": max(made, default=0),
        }

    def _check(self, now: float) -> None:
        """Begin a check period where the last one is over, or its number of commits is another one now."""
        rate = self._search.target(now)
        if rate == self._rate and now < self._start + self._period:
            return
        most = max(self._commits.values(), default=self._base)
        # The last commit of a period, due at its end, is often still to come, and must not count for the next period.
        self._base = max(most, min(self._expected(now), most + 1))
        # On the grid of the last one where it has only run out, so that late calls do not make periods longer.
        self._start = now if rate != self._rate else now - (now - self._start) % self._period
        self._rate = rate
        self._commits_at_start = dict(self._commits)

    def _expected(self, now: float) -> int:
        """Commits that are due by now, counted as those of the workers are."""
        passed = min(max(now - self._start, 0.0), self._period) / self._period
        return self._base + int(self._rate * passed)
