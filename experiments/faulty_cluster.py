"""Three honest nodes with two faulty ones, and at the same time three without any."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from experiments.ports import free_ports
from experiments.pretenders import Change, Pretender
from experiments.training_figures import read_lines, step_seconds
from p2pdl.node.restarts import how_it_ended
from p2pdl.partition import partition
from tools.faults import FaultProxy, Faults
from tools.storm.cluster import CLUSTER, StormCluster, StormNode

HONEST, FAULTY = ("node1", "node2", "node3"), ("node4", "node5")

FOLLOW_SECONDS = 0.2
"""How often the faulty nodes serve something new."""

SILENT_SHARE = 0.1
"""Those that fall silent do so after this share of the steps: everybody knows and has merged with them by then."""

LINGER_SECONDS = 120
"""A node that answers and does not finish is waited for so long."""


def as_it_is(first: np.ndarray, newest: np.ndarray) -> np.ndarray:
    """What an honest node serves."""
    return newest


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the faulty nodes.

    Attributes:
        change: What they serve.
        loss: What they state; an honest node's loss where None.
        faults: Of the way to them.
        falls_silent: Whether their servers stop.
        gossip: Settings of the section `gossip` for all nodes.
    """

    change: Change = as_it_is
    loss: float | None = None
    faults: Faults = field(default_factory=Faults)
    falls_silent: bool = False
    gossip: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """How three honest nodes fared.

    Attributes:
        ended: How each of them ended that did not end well, in words.
        steps: The fewest steps that one has done; 0 if one has not ended well.
        step_seconds: Median step of each, while all nodes of both clusters were training.
        accuracies: Of each before the final merge.
        consensus: Of each after it.
        merges: Of all of them.
        failures: Pulls that failed, by code.
        merged: Faulty nodes whose weights are in somebody's final merge.
    """

    ended: Mapping[str, str]
    steps: int
    step_seconds: Sequence[float]
    accuracies: Sequence[float]
    consensus: Sequence[float]
    merges: int
    failures: Mapping[str, int]
    merged: Sequence[str]


class Trio:
    """Three honest nodes, as a context manager, with two faulty ones or without.

    Args:
        sections: The configuration without `cluster` and `nodes`.
        folder: A new folder.
        fault: What is wrong with the faulty ones; None for three nodes alone.
    """

    def __init__(self, sections: Mapping[str, Any], folder: Path, fault: Fault | None) -> None:
        self._steps = int(sections["train"]["steps"])
        self._fault = fault
        gossip = {**sections.get("gossip", {}), "linger": LINGER_SECONDS, **(fault.gossip if fault else {})}
        self._sections = {**sections, "gossip": gossip}
        self._folder = folder
        self._nodes: Mapping[str, StormNode] = {}
        self._faulty: list[Pretender] = []
        self._codes: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Trio:
        """Start all nodes."""
        with contextlib.ExitStack() as stack:
            ports = free_ports(len(FAULTY)) if self._fault else []
            binds = {name: f"127.0.0.1:{port}" for name, port in zip(FAULTY, ports, strict=False)}
            faults = self._fault.faults if self._fault else Faults()
            places = {name: stack.enter_context(FaultProxy(bind, faults)).address for name, bind in binds.items()}
            entries = [{"name": name, "address": places[name], "bind": binds[name]} for name in binds]
            cluster = stack.enter_context(StormCluster(self._folder, HONEST, self._sections, others=entries))
            self._nodes = cluster.nodes
            places |= {node.name: node.address for node in self._nodes.values()}
            for name, bind in binds.items():
                assert self._fault is not None
                change, loss = self._fault.change, self._fault.loss
                contacts = {other: place for other, place in places.items() if other != name}
                log = self._folder / f"{name}.log"
                self._faulty.append(
                    stack.enter_context(Pretender(name, bind, places[name], contacts, CLUSTER, change, loss, log))
                )
            # After the servers of the faulty ones: once everybody loads TensorFlow, those would take long to start.
            for node in self._nodes.values():
                node.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whatever still runs."""
        self._stack.close()

    @property
    def is_over(self) -> bool:
        """Whether every honest node has ended."""
        return len(self._codes) == len(HONEST)

    def look(self) -> None:
        """Let the faulty nodes follow the honest ones, and see whether those have ended."""
        for pretender, name in zip(self._faulty, HONEST, strict=False):
            if name not in self._codes:
                pretender.follow(self._nodes[name].bind)
            if self._fault is not None and self._fault.falls_silent and pretender.step >= SILENT_SHARE * self._steps:
                pretender.stop()
        for name, node in self._nodes.items():
            if (code := node.reap()) is not None:
                self._codes[name] = code

    @property
    def share(self) -> float:
        """Of its steps that the slowest honest node has done, in [0, 1]."""
        done = [lines[-1]["step"] if lines else 0 for lines in self.lines().values()]
        return min(1.0, min(done) / self._steps)

    def lines(self) -> dict[str, list[dict[str, Any]]]:
        """The lines of each honest node's metrics."""
        return {name: read_lines(node.folder / "metrics.jsonl") for name, node in self._nodes.items()}

    def row(self, seconds: Mapping[str, Sequence[float]]) -> Row:
        """How the honest nodes have fared.

        Args:
            seconds: Of those steps of each node that count.
        """
        summaries = [node.summary() for node in self._nodes.values()]
        done = [summary for summary in summaries if summary.get("state") == "done"]
        failures: Counter[str] = Counter()
        for summary in done:
            failures.update(summary["exchange_failures"])
        return Row(
            ended={name: how_it_ended(code) for name, code in self._codes.items() if code != 0},
            steps=min(summary["steps"] for summary in done) if len(done) == len(HONEST) else 0,
            step_seconds=[statistics.median(each) for each in seconds.values() if each],
            accuracies=[summary["before_final_merge"]["test_accuracy"] for summary in done],
            consensus=[summary["test_accuracy"] for summary in done],
            merges=sum(summary["merges"] for summary in done),
            failures=dict(sorted(failures.items())),
            merged=sorted({name for summary in done for name in summary["final_merge"]["nodes"] if name in FAULTY}),
        )


def train_side_by_side(with_faulty: Trio, alone: Trio, say: Callable[[float | None, str], None]) -> tuple[Row, Row]:
    """Train three nodes beside two faulty ones, and three alone at the same time: what else goes on slows both alike.

    Args:
        with_faulty: The nodes beside the faulty ones.
        alone: The others.
        say: Told how far they are.

    Returns:
        How both fared, in the same order.
    """
    trios = with_faulty, alone
    with with_faulty, alone:
        while not all(trio.is_over for trio in trios):
            began = time.monotonic()
            for trio in trios:
                trio.look()
            say(min(trio.share for trio in trios), "training")
            time.sleep(max(0.0, began + FOLLOW_SECONDS - time.monotonic()))
        lines = [{f"{place} {name}": found for name, found in trio.lines().items()} for place, trio in enumerate(trios)]
        seconds = step_seconds(lines[0] | lines[1])
        first, second = (
            trio.row({name: seconds[name] for name in own}) for trio, own in zip(trios, lines, strict=True)
        )
    return first, second


def write_data(folder: Path, whole: Mapping[str, np.ndarray], seed: int) -> tuple[Path, Path]:
    """Files with all data, and with the parts of the honest nodes among five.

    Args:
        folder: Where to.
        whole: `x_train`, `y_train`, `x_test` and `y_test`.
        seed: Of the partition.
    """
    everybody = len(HONEST) + len(FAULTY)
    parts = partition("iid", whole["y_train"], everybody, seed)[: len(HONEST)]
    kept = np.sort(np.concatenate(parts))
    paths = folder / "whole.npz", folder / "parts.npz"
    np.savez(paths[0], **whole)
    np.savez(paths[1], **{**whole, "x_train": whole["x_train"][kept], "y_train": whole["y_train"][kept]})
    return paths
