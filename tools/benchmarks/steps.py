"""Rows of the family `steps`: a training step with gossip, and one with the mask, against the bare loop.

The bare loop is p2pdl's compiled step alone, one `tf.function` over batches that are in memory. Both sides of a pair
run in one process, the step with gossip on the same model; its peers rest meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from p2pdl.node.local_nodes import cores
from tools.benchmarks.cases import CASES
from tools.benchmarks.measurement import Effort, Found, Row, Target, alternate
from tools.benchmarks.peers import make_way

TARGETS = {"mlp": Target("<=", 1.10), "vgg19": Target("<=", 1.05)}


def block_of(steps: int, step: Callable[[], object]) -> float:
    """Milliseconds of each of so many steps in a row."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return 1e3 * (time.perf_counter() - started) / steps


def measure_gossip(effort: Effort, name: str, apart: bool) -> Found:
    """Measure an exchange after every step: a pull always under way, and a peer that pulls every version.

    Args:
        effort: How much.
        name: Of the case.
        apart: True to give the training cores of its own, and the exchange and the peers others.
    """
    spare = make_way() if apart else []
    from tools.benchmarks.training import Gossip, Training

    case = CASES[name].sized(effort.trial)
    training = Training(case, masked=True)
    # Traced and compiled now, so that it is in no figure.
    training.step()
    with Gossip(training, spare) as gossip:
        counters = gossip.exchange.counters
        seconds = 0.0

        def with_gossip() -> float:
            nonlocal seconds
            gossip.resume()
            milliseconds = block_of(case.block, gossip.step)
            gossip.rest()
            seconds += 1e-3 * milliseconds * case.block
            return milliseconds

        pairs = alternate(effort.repeats, with_gossip, lambda: block_of(case.block, training.step))
    steps = case.block * (effort.repeats + 1)
    return Found(
        pairs,
        {
            "parameters": training.spec.parameters,
            "batch": case.batch,
            "steps_in_a_row": case.block,
            "cores_of_training": cores(),
            "cores_of_peers": len(spare),
            "pulls_per_step": counters.merges / steps,
            "pulled_per_step": gossip.pulls / steps,
            "publish_share": counters.publish_seconds / seconds,
            "merge_share": counters.merge_seconds / seconds,
            "wait_share": counters.wait_seconds / seconds,
            "failed_pulls": sum(counters.failures.values()),
            "publications_per_step": counters.publications / steps,
        },
        f"{counters.merges / steps:.2f} pulls a step",
    )


def measure_mask(effort: Effort, name: str) -> Found:
    """Measure the step with the gradients' mask by the mean of their magnitudes, and without a mask."""
    from tools.benchmarks.training import Training

    case = CASES[name].sized(effort.trial)
    masked, plain = Training(case, masked=True), Training(case, masked=False)
    pairs = alternate(
        effort.repeats, lambda: block_of(case.block, masked.step), lambda: block_of(case.block, plain.step)
    )
    return Found(pairs, {"parameters": plain.spec.parameters, "batch": case.batch, "steps_in_a_row": case.block})


ROWS = (
    *(
        Row(
            f"step-{name}{'' if apart else '-together'}",
            f"step of {name}, batch {case.batch}, with an exchange after every step, {where}",
            "bare tf.function loop over the same model, optimizer and batches, on the same cores",
            "ms",
            partial(measure_gossip, name=name, apart=apart),
            TARGETS.get(name),
            quick=False,
        )
        for name, case in CASES.items()
        for apart, where in ((True, "which has cores of its own"), (False, "all on all cores"))
    ),
    *(
        Row(
            f"mask-{name}",
            f"step of {name}, batch {case.batch}, with the mean-threshold mask and no exchange",
            "the same step without a mask",
            "ms",
            partial(measure_mask, name=name),
            quick=False,
        )
        for name, case in CASES.items()
    ),
)
