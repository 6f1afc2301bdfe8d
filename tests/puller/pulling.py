"""Asking a real server over ZeroMQ."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from p2pdl.clock import MonotonicClock
from p2pdl.protocol.messages import SnapshotRequest, StatusReply, StatusRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.spec import WeightSpec
from p2pdl.transport.zeromq import ZmqClient

WAIT = 20.0
"""Seconds for an answer that does come: only a failure takes so long."""


@contextlib.contextmanager
def requester_of(name: str = "beta", cluster: str = "lab") -> Iterator[Requester]:
    """A node that asks."""
    requester = Requester(ZmqClient(), cluster, name, MonotonicClock())
    try:
        yield requester
    finally:
        requester.close()


def status_of(address: str) -> StatusReply:
    """What the node at an address says of itself."""
    with requester_of() as requester:
        reply, _ = requester.ask(address, StatusRequest(), WAIT)
    assert isinstance(reply, StatusReply)
    return reply


def version_of(address: str, spec: WeightSpec) -> int:
    """The version that the node at an address serves."""
    with requester_of() as requester:
        reply, _ = requester.ask(address, SnapshotRequest(spec.digest), WAIT)
    return reply.version  # type: ignore[union-attr]


def pull(requester: Requester, address: str, spec: WeightSpec, inbox: Inbox) -> Outcome:
    """Pull a whole vector as it is."""
    inbox.expect(None)
    return requester.pull("alpha", address, spec, PullSettings(timeout=60, request_timeout=WAIT), inbox.accept)
