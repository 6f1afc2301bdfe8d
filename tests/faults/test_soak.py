"""A long time of pulls, one after another: memory, descriptors and threads of both ends stay what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from p2pdl.clock import MonotonicClock
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import Puller, PullOrder
from p2pdl.puller.requests import Requester
from p2pdl.transport.zeromq import ZmqClient
from tests.processes import memory_mib, server
from tests.puller.pulling import WAIT
from tests.stores import dense_spec, new_store, publish, random_vector, writing

SPEC = dense_spec(1000)
SETTINGS = PullSettings(timeout=60.0, request_timeout=WAIT)

VERSION_PULLS = 100
"""Pulls of one version."""

LOOKS = 20

SETTLED = 0.2
"""The share of the pulls after which both ends hold what they need."""

GROWTH_MIB = 4.0
"""By how much the memory of a process may grow over all pulls, as a straight line through what was seen has it."""


@dataclass(frozen=True)
class Look:
    """What a process holds at one moment."""

    mebibytes: float
    descriptors: int
    threads: int


def look(pid: int) -> Look:
    """What a process holds now."""
    descriptors, threads = (len(os.listdir(f"/proc/{pid}/{what}")) for what in ("fd", "task"))
    return Look(memory_mib(pid, "VmRSS"), descriptors, threads)


@contextmanager
def pulling() -> Iterator[Puller]:
    """A puller in the background, as a trainer has it."""
    puller = Puller(lambda: Requester(ZmqClient(), "lab", "beta", MonotonicClock()), SPEC)
    try:
        yield puller
    finally:
        puller.close()


def soak(pulls: int) -> dict[str, list[Look]]:
    """Pull so often; what both ends held, looked at again and again."""
    inbox = Inbox(SPEC)
    looks: dict[str, list[Look]] = {"server": [], "puller": []}
    with new_store() as store, writing(store, SPEC) as writer, server(store) as serving, pulling() as puller:
        for number in range(pulls):
            if number % VERSION_PULLS == 0:
                vector = random_vector(SPEC.size, number)
                publish(writer, vector, step=number + 1)
            if number % (pulls // LOOKS) == 0 and number >= SETTLED * pulls:
                looks["server"].append(look(serving.process.pid))
                looks["puller"].append(look(os.getpid()))
            inbox.expect(None)
            puller.start(PullOrder("alpha", serving.address, inbox.accept, SETTINGS))
            outcome = puller.take(WAIT)
            assert outcome is not None and outcome.error is None, outcome
            if number % VERSION_PULLS == 0:
                np.testing.assert_array_equal(inbox.vector, vector)
    return looks


def assert_flat(looks: list[Look]) -> None:
    """No descriptor and no thread more at the end than at the beginning."""
    assert looks[-1].descriptors <= looks[0].descriptors and looks[-1].threads <= looks[0].threads, looks


def test_a_thousand_pulls_leave_descriptors_and_threads_as_they_were() -> None:
    for looks in soak(1000).values():
        assert_flat(looks)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_pulls_leave_memory_descriptors_and_threads_as_they_were() -> None:
    pulls = 100_000
    for end, looks in soak(pulls).items():
        assert_flat(looks)
        moments = np.linspace(SETTLED, 1.0, len(looks))
        growth = float(np.polyfit(moments, [each.mebibytes for each in looks], 1)[0])
        print(f"{end}: {looks[0]} at first, {looks[-1]} in the end, {growth:+.2f} MiB over {pulls} pulls")
        assert growth <= GROWTH_MIB
