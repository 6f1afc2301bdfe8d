"""Who may begin which iteration at a parameter server, and when a worker commits: policies and their registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pdl.synchronisation.adsp import DEFAULT_CHECK_PERIOD, DEFAULT_SEARCH_PERIOD, DEFAULT_SEARCH_WINDOW, Adsp
from p2pdl.synchronisation.asp import Asp
from p2pdl.synchronisation.bsp import Bsp
from p2pdl.synchronisation.commit_search import CommitSearch
from p2pdl.synchronisation.contract import Policy
from p2pdl.synchronisation.ssp import DEFAULT_STALENESS, Ssp
from p2pdl.synchronisation.window import SlidingWindow

__all__ = ["POLICIES", "CommitSearch", "Policy", "PolicySettings", "SlidingWindow", "make_policy"]


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What policies can be told.

    Attributes:
        staleness: Iterations that a worker may be ahead of the slowest; read by `ssp` only.
        check_period: Seconds in which all workers make the same number of commits; this and what follows are read by
            `adsp` only.
        search_window: Seconds for which a number of commits is tried.
        search_period: Seconds from the beginning of one search to that of the next.
        first_commits: Commits a period to begin with.
    """

    staleness: int = DEFAULT_STALENESS
    check_period: float = DEFAULT_CHECK_PERIOD
    search_window: float = DEFAULT_SEARCH_WINDOW
    search_period: float = DEFAULT_SEARCH_PERIOD
    first_commits: int = 1


POLICIES: dict[str, Callable[[PolicySettings, int], Policy]] = {
    "bsp": lambda settings, low: Bsp(low),
    "asp": lambda settings, low: Asp(low),
    "ssp": lambda settings, low: Ssp(settings.staleness, low),
    "adsp": lambda settings, low: Adsp(
        CommitSearch(settings.search_window, settings.search_period, settings.first_commits), settings.check_period, low
    ),
}
"""Policies by the name that a configuration uses."""


def make_policy(name: str, settings: PolicySettings | None = None, low: int = 0) -> Policy:
    """Build a policy without workers.

    Args:
        name: A key of `POLICIES`.
        settings: Defaults where not given.
        low: The first iteration, not 0 where a run goes on from a checkpoint.

    Raises:
        ValueError: The name is unknown, or a setting does not suit the policy.
    """
    if name not in POLICIES:
        raise ValueError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name](settings or PolicySettings(), low)
