"""Clusters under random schedules of faults: whatever happens, and in whatever order, the same few things hold.

`P2PDL_SEED=17 ./tools/test tests/simulation/test_schedules.py` runs one schedule again, to the bit as it was.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from tests.simulation.schedules import DELTA_CODECS, STEP_SECONDS, Schedule

SEED = os.environ.get("P2PDL_SEED")

HEALED = 0.05
"""Of the consensus error at the end of the faults: what may be left of it."""

NEGLIGIBLE = 1e-12
"""Mean squared distance of nodes that agree but for rounding."""

SMALL = WeightSpec.layout([("kernel", (48,), "float32", True), ("mean", (16,), "float32", False)])

LARGE = WeightSpec.layout([("kernel", (2 * SHARD_ELEMENTS + 1000,), "float32", True)])
"""Of three shards, which are asked for one by one: replies can be lost, repeated and overtaken within a pull."""


def check(seed: int, spec: WeightSpec) -> None:
    """Run one schedule; what must hold, holds."""
    schedule = Schedule(seed, spec)
    schedule.run()
    apart = schedule.consensus_error()
    merges = {node.name: node.merges for node in schedule.standing}

    def is_healed() -> bool:
        # A delta carries what has changed: where nobody trains any more, it leaves nodes apart that nothing moves.
        is_near = schedule.codec in DELTA_CODECS or schedule.consensus_error() <= max(HEALED * apart, NEGLIGIBLE)
        return is_near and all(node.merges > merges[node.name] for node in schedule.standing)

    assert schedule.heal(is_healed)
    now = schedule.network.clock.now()
    for node in schedule.standing:
        # No step is missing and none is late, whatever the peers and the network did.
        expected = node.began + STEP_SECONDS * np.arange(1, len(node.step_times) + 1)
        np.testing.assert_allclose(node.step_times, expected, atol=1e-6)
        assert now - STEP_SECONDS - 1e-6 <= node.step_times[-1]
    assert schedule.ledger.compared > 0 or schedule.codec != "float32"


def seeds(count: int, *known: int) -> list[int]:
    """The one that is asked for, or as many as there are to be, and those that once showed a mistake."""
    return [int(SEED)] if SEED else [*range(count), *known]


@pytest.mark.parametrize("seed", seeds(25, 1679, 2942, 4760, 4972))
def test_whatever_happens_nodes_train_on_take_what_was_published_and_come_together_again(seed: int) -> None:
    check(seed, SMALL)


@pytest.mark.parametrize("seed", seeds(1, 90))
def test_the_same_holds_for_pulls_of_many_replies(seed: int) -> None:
    check(seed, LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("spec, count", [(SMALL, 5000), (LARGE, 200)], ids=["small", "large"])
def test_thousands_of_schedules(spec: WeightSpec, count: int) -> None:
    for seed in range(count):
        try:
            check(seed, spec)
        except Exception as error:
            raise AssertionError(f"with P2PDL_SEED={seed}: {error}") from error
