"""The roles of a trainer's two peers: one that it pulls from, and one that pulls from it. Neither trains."""

from __future__ import annotations

import os

import numpy as np

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerRefused
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.protocol.pull import VersionKey
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import Puller
from p2pdl.puller.requests import Requester
from p2pdl.puller.source import Source
from p2pdl.spec import WeightSpec, shards_in
from p2pdl.transport.zeromq import ZmqClient
from tools.benchmarks.reference import weights
from tools.benchmarks.role import answer, is_wanted, orders
from tools.benchmarks.served import CLUSTER, Served

PAUSE_SECONDS = 0.005
"""Between two looks for something new."""


def serve_new_versions(rows: str, cores: list[int]) -> None:
    """Role of the peer that is pulled: after the order `address` there is a new version whenever the newest was read.

    Args:
        rows: The rows of the model's spec.
        cores: Where to run; anywhere if there are none.
    """
    run_on(cores)
    spec = WeightSpec.parse(rows)
    vector = weights(spec.size)
    for span in spec.state_spans:
        vector[span] = 1.0
    with Served("served", spec) as served:
        for _ in orders():
            answer(address=served.address)
            while not is_wanted(PAUSE_SECONDS):
                if served.writer.newest_was_read:
                    served.publish(vector)


def pull_new_versions(rows: str, address: str, cores: list[int]) -> None:
    """Role of the peer that pulls: after the order `go` it pulls each new version until the order `stop`.

    Args:
        rows: The rows of the model's spec.
        address: `host:port` of the trainer's own server.
        cores: Where to run; anywhere if there are none.
    """
    run_on(cores)
    spec = WeightSpec.parse(rows)
    source = Source(spec, Link(LinkSettings(), shards_in(spec.size)), parts=1)
    inbox = Inbox(spec)
    inbox.expect(np.zeros(spec.size, np.float32))
    puller = Puller(lambda: Requester(ZmqClient(), CLUSTER, "pulling", MonotonicClock()), spec)
    known: VersionKey | None = None
    pulls = 0
    try:
        for order in orders():
            answer(pulls=pulls)
            while order == "go" and not is_wanted(PAUSE_SECONDS):
                puller.start(source.order("own", address, inbox.accept, known, whole=False))
                while (outcome := puller.take(60.0)) is None:
                    pass
                if outcome.error is not None and not isinstance(outcome.error, PeerRefused):
                    raise outcome.error
                if outcome.snapshot is not None and not outcome.unchanged:
                    known = outcome.snapshot.incarnation, outcome.snapshot.version
                    pulls += 1
    finally:
        puller.close()


def run_on(cores: list[int]) -> None:
    """Keep this thread, and what it starts, to some cores; to none in particular where the list is empty."""
    if cores:
        os.sched_setaffinity(0, cores)


def make_way() -> list[int]:
    """Keep this process off the cores of the exchange and the peers: two of four or more, one of fewer, none of one.

    Call it before TensorFlow makes its threads.

    Returns:
        Those cores.
    """
    allowed = sorted(os.sched_getaffinity(0))
    count = min(len(allowed) // 2, 2)
    spare = allowed[len(allowed) - count :]
    run_on(allowed[: len(allowed) - count])
    return spare
