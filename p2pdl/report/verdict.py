"""What came out of a run: one sentence, and the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.report import words
from p2pdl.report.run import NodeRun, Run
from p2pdl.report.statistics import (
    accuracy_after,
    accuracy_before,
    median,
    merge_matrix,
    phase_seconds,
    seconds_per_step,
    total,
)
from p2pdl.types import JsonObject


@dataclass(frozen=True)
class Verdict:
    """A run in figures; None where nothing says it.

    Attributes:
        nodes: How many nodes there are.
        done: How many of them have done their part.
        accuracy: Test accuracy of the consensus model, or else the workers' median.
        is_consensus: Which of the two it is.
        seconds: Of the whole run, or else of the longest training.
        median: Seconds per step: the median of the workers' medians.
        p90: Seconds per step: the median of the workers' 90th percentiles.
        bytes_received: Sum over the workers.
        bytes_sent: Sum over the workers.
    """

    nodes: int
    done: int
    accuracy: float | None
    is_consensus: bool
    seconds: float | None
    median: float | None
    p90: float | None
    bytes_received: float | None
    bytes_sent: float | None


def verdict_of(run: Run) -> Verdict:
    """The figures of a run."""
    consensus = run.consensus or {}
    of_nodes = median([_accuracy(node) for node in run.workers])
    agreed = consensus.get("test_accuracy")
    steps = [seconds_per_step(node) for node in run.workers]
    longest = [seconds for node in run.nodes if (seconds := node.figure("seconds")) is not None]
    return Verdict(
        nodes=len(run.nodes),
        done=sum(node.state == "done" for node in run.nodes),
        accuracy=agreed if agreed is not None else of_nodes,
        is_consensus=agreed is not None,
        seconds=run.seconds if run.seconds is not None else max(longest, default=None),
        median=median([middle for middle, _ in steps]),
        p90=median([high for _, high in steps]),
        bytes_received=total(run.workers, "bytes_received"),
        bytes_sent=total(run.workers, "bytes_sent"),
    )


def _accuracy(node: NodeRun) -> float | None:
    after = accuracy_after(node)
    return after if after is not None else accuracy_before(node)


def sentence(run: Run) -> str:
    """The verdict on one line."""
    found = verdict_of(run)
    nodes = words.plural(found.nodes, "node")
    what = "consensus accuracy" if found.is_consensus else "accuracy of its nodes (median)"
    parts = [
        f"{nodes}, all done" if found.done == found.nodes else f"{nodes}, {found.done} done",
        f"{what} {words.decimals(found.accuracy, 4)}" if found.accuracy is not None else "no accuracy",
        words.seconds(found.seconds),
        f"ms/batch median {words.milliseconds(found.median)}, p90 {words.milliseconds(found.p90)}",
        f"{words.nbytes(found.bytes_received)} received" if found.bytes_received is not None else "no traffic recorded",
    ]
    return "; ".join(parts)


def as_json(run: Run) -> JsonObject:
    """A run as one object: the verdict, a row for each node, and who merged from whom."""
    found = verdict_of(run)
    mergers, sources, counts = merge_matrix(run)
    return {
        "title": run.title,
        "folder": str(run.folder),
        "cluster": run.cluster,
        "strategy": run.strategy,
        "nodes_done": found.done,
        "accuracy": found.accuracy,
        "accuracy_is_consensus": found.is_consensus,
        "seconds": found.seconds,
        "seconds_per_step": {"median": found.median, "p90": found.p90},
        "bytes_received": found.bytes_received,
        "bytes_sent": found.bytes_sent,
        "nodes": [_node_as_json(node) for node in run.nodes],
        "merges": {"nodes": mergers, "from": sources, "counts": counts.tolist()},
        "missing": missing_of(run),
    }


def _node_as_json(node: NodeRun) -> JsonObject:
    middle, high = seconds_per_step(node)
    return {
        "node": node.name,
        "role": "server" if node.is_server else "worker",
        "state": node.state,
        "steps": steps_of(node),
        "seconds": node.figure("seconds"),
        "accuracy_before_final_merge": accuracy_before(node),
        "accuracy": _accuracy(node),
        "test_loss": node.figure("test_loss"),
        "smoothed_loss": node.figure("smoothed_loss"),
        "seconds_per_step": {"median": middle, "p90": high},
        "phase_seconds": phase_seconds(node),
        "merges": node.figure("merges"),
        "merges_skipped": node.figure("merges_skipped"),
        "bytes_received": node.figure("bytes_received"),
        "bytes_sent": node.figure("bytes_sent"),
        "lines": len(node.lines),
        "environment": node.environment or None,
    }


def steps_of(node: NodeRun) -> float | None:
    """Steps done, of the summary or of the last line."""
    steps = node.figure("steps")
    return steps if steps is not None else node.figure("step")


def missing_of(run: Run) -> list[str]:
    """All that is not there, in words."""
    return [*run.missing, *(text for node in run.nodes for text in node.missing)]
