"""A real node whose peers have all gone bad, each in its own way: it learns, refuses them and leaves them alone."""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import pytest

from p2pdl.clock import MonotonicClock
from p2pdl.errors import StartupError
from p2pdl.node.participation import Participation
from p2pdl.spec import WeightSpec
from p2pdl.store import memory
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector
from tests.node.clusters import START_SECONDS, Lab, make_lab, node
from tests.pretended_clusters import configuration
from tests.processes import server, wait_until

PATIENCE_SECONDS = 120.0
"""The third strike comes some four seconds after the first one; a busy machine takes longer."""
BAD = {"node2": "not-finite", "node3": "distance", "node4": "worse"}


@contextlib.contextmanager
def serving(address: str, spec: WeightSpec, vector: Float32Vector, loss: float) -> Iterator[Callable[[int], None]]:
    """A peer that serves whatever it likes and says of it whatever it likes: the function that it yields publishes.

    That function takes the steps which are said to be behind the weights.
    """
    store = memory.create()
    writer = StoreWriter(store, spec)

    def publish(step: int) -> None:
        with mock.patch("p2pdl.store.writer.is_finite", return_value=True):
            writer.publish(lambda target: np.copyto(target, vector), step=step, samples=64 * step, loss=loss)

    publish(10**9)
    try:
        with server(store, address=address):
            yield publish
    finally:
        writer.close()
        os.close(store)


def states(lab: Lab) -> dict[str, str]:
    """How node1 sees its peers."""
    status = lab.status("node1")
    return {str(row["name"]): str(row["state"]) for row in status.peers} if status is not None else {}


def loss(lab: Lab) -> float:
    """What node1 says of its own loss."""
    status = lab.status("node1")
    return math.inf if status is None or status.loss is None else status.loss


@pytest.mark.slow
def test_node_with_no_peer_but_bad_ones_learns_and_leaves_them_alone(tmp_path):
    gossip = {"start_wait": 1.0, "linger": 2.0, "request_timeout": 1.0, "contribution": "measured"}
    lab = make_lab(tmp_path, 4, train={"steps": 10_000_000, "batch_size": 32}, gossip=gossip)
    at = lab.addresses
    with contextlib.ExitStack() as stack:
        started = stack.enter_context(node(lab, "node1"))
        assert wait_until(lambda: lab.has_reached("node1", 100), START_SECONDS)
        spec = lab.spec("node1")
        noise = np.random.default_rng(0).normal(scale=0.1, size=spec.size).astype(np.float32)
        not_finite = stack.enter_context(serving(at["node2"], spec, np.full_like(noise, np.nan), loss=0.5))
        scaled = stack.enter_context(serving(at["node3"], spec, 1000 * noise, loss=0.5))

        def are_left_alone() -> bool:
            status = lab.status("node1")
            if status is not None:
                # With as many steps as node1 they are neither newcomers to it, nor is node1 one to them.
                not_finite(status.step)
                scaled(status.step)
            return states(lab).items() >= {"node2": "quarantined", "node3": "quarantined"}.items()

        assert wait_until(are_left_alone, PATIENCE_SECONDS), states(lab)
        # Now that the others answer too, this one is not most of those that do.
        stack.enter_context(serving(at["node4"], spec, noise, loss=0.0))
        assert wait_until(lambda: states(lab).get("node4") == "quarantined", PATIENCE_SECONDS), states(lab)
        assert wait_until(lambda: loss(lab) < 0.3, PATIENCE_SECONDS)
        started.signal(signal.SIGINT)
        assert started.wait() == 130
        said = started.said()
    summary = lab.summary("node1")
    assert (summary["merges"], summary["adoptions"]) == (0, 0)
    assert summary["exchange_failures"].keys() >= set(BAD.values())
    assert "skipped node2: its weights are not finite" in said
    assert "skipped node3: its weights are " in said
    assert "skipped node4: says that it has done 1000000000 steps with a loss of 0, but its weights have a loss" in said
    for name, code in BAD.items():
        assert summary["exchange_failures"][code] >= 3
        assert f"quarantined {name}: " in said
    assert "Traceback" not in said


def test_losses_cannot_be_measured_where_the_data_are_not_at_hand(tmp_path):
    given = configuration(tmp_path, nodes=2, more="gossip: {contribution: measured}\n")
    with pytest.raises(StartupError, match="contribution: measured needs the node's own data") as refusal:
        Participation(given, "node1", -1, None, MonotonicClock())
    assert "contribution: claimed" in refusal.value.remedy
