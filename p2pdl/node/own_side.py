"""What a check says of this machine's own side: whether its node could listen, or is the one that does already."""

from __future__ import annotations

import errno
import os

from p2pdl.config import Address
from p2pdl.config.sections import NodeEntry
from p2pdl.node.connection_sighting import Expectation, Sighting, Step
from p2pdl.node.connection_verdict import judge

AGREEMENT = frozenset({"settings", "model", "round trip"})
"""Steps that a running node of the right name may fail: it runs, but not with this file."""


def own_steps(
    expected: Expectation, entry: NodeEntry, error: int, seen: Sighting | None, key: Step | None = None
) -> list[Step]:
    """Judge a node's key, and where it is to listen.

    Args:
        expected: What a node of the file must be.
        entry: The node.
        error: What an attempt to listen came to, 0 if it could.
        seen: What answers there already, if the port is taken.
        key: What is to be said of its key; None where it needs none.
    """
    steps = [key] if key else []
    if key and not key.ok:
        return steps
    place, setting = entry.listen, "bind" if entry.bind else "address"
    if error in (0, errno.EADDRINUSE, errno.EACCES):
        every = "stands for every address of this machine" if place.is_wildcard else "is an address of this machine"
        steps.append(Step("address", True, f"{place.host} {every}"))
    else:
        reason = "this machine has no such address" if error == errno.EADDRNOTAVAIL else os.strerror(error)
        return [
            *steps,
            Step(
                "address",
                False,
                f"{entry.name} cannot listen on {place}: {reason}",
                f"correct `{setting}` of {entry.name}; behind a port forwarding, write where it listens beside the "
                f"address that the others dial: `bind: 0.0.0.0:{place.port}`",
                "not this machine",
            ),
        ]
    if error == errno.EACCES:
        return [
            *steps,
            Step(
                "port",
                False,
                f"{entry.name} may not listen on port {place.port}: {os.strerror(error)}",
                "choose a port above 1023",
                "forbidden",
            ),
        ]
    if seen is None:
        return [*steps, Step("port", True, f"port {place.port} is free")]
    judged = judge(expected, seen)
    failed = next((step for step in judged if step.ok is False), None)
    if failed is None or failed.name in AGREEMENT:
        runs = Step("port", True, f"{entry.name} runs already and listens there")
        return [*steps, runs, *(step for step in judged if step.name in AGREEMENT)]
    remedy = f"stop the other program, or give {entry.name} another port under `nodes`"
    return [*steps, Step("port", False, f"port {place.port} is taken: {failed.detail}", remedy, "port taken")]


def reached_from_here(listen: Address) -> Address:
    """Where this machine itself finds what listens there."""
    if not listen.is_wildcard:
        return listen
    return Address("::1" if listen.is_ipv6 else "127.0.0.1", listen.port)
