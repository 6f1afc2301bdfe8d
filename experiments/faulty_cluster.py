"""One run of three honest nodes with two faulty ones, or without any."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.pretenders import Change, Pretender
from experiments.running import free_ports
from p2pdl.node.cluster import how_it_ended
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
class Case:
    """What is wrong with the faulty nodes.

    Attributes:
        name: In the table.
        change: What they serve.
        loss: What they state; an honest node's loss where None.
        faults: Of the way to them.
        falls_silent: Whether their servers stop.
        gossip: Settings of the section `gossip` for all nodes.
    """

    name: str
    change: Change = as_it_is
    loss: float | None = None
    faults: Faults = field(default_factory=Faults)
    falls_silent: bool = False
    gossip: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """How a run went.

    Attributes:
        case: Its name; empty for a run without faulty nodes.
        ended: How each honest node ended that did not end well, in words.
        steps: The fewest steps that an honest node has done.
        step_seconds: Median step of each honest node.
        accuracies: Of each honest node before the final merge.
        consensus: Of each honest node after it.
        merges: Of all honest nodes.
        failures: Pulls that failed, by code.
        merged: Faulty nodes whose weights are in somebody's final merge.
        seconds: Length of the run.
        load: Of the machine, when the run began.
    """

    case: str
    ended: Mapping[str, str]
    steps: int
    step_seconds: Sequence[float]
    accuracies: Sequence[float]
    consensus: Sequence[float]
    merges: int
    failures: Mapping[str, int]
    merged: Sequence[str]
    seconds: float
    load: float


def train(case: Case | None, sections: Mapping[str, Any], folder: Path) -> Row:
    """Train three nodes to their end.

    Args:
        case: What is wrong with two further ones; None for a run without those.
        sections: The configuration without `cluster` and `nodes`.
        folder: A new folder.
    """
    began, load = time.monotonic(), os.getloadavg()[0]
    print(f"running: {case.name if case else 'without faulty nodes'} ...", file=sys.stderr, flush=True)
    gossip = {**sections.get("gossip", {}), "linger": LINGER_SECONDS, **(case.gossip if case else {})}
    with contextlib.ExitStack() as stack:
        proxies = {
            name: (f"127.0.0.1:{port}", stack.enter_context(FaultProxy(f"127.0.0.1:{port}", case.faults)))
            for name, port in zip(FAULTY, free_ports(len(FAULTY)), strict=True)
            if case
        }
        entries = [{"name": name, "address": proxy.address, "bind": bind} for name, (bind, proxy) in proxies.items()]
        cluster = StormCluster(folder, HONEST, {**sections, "gossip": gossip}, others=entries)
        nodes = stack.enter_context(cluster).nodes
        contacts = {node.name: node.address for node in nodes.values()} | {
            entry["name"]: entry["address"] for entry in entries
        }
        for node in nodes.values():
            node.start()
        faulty = []
        for name, (bind, proxy) in proxies.items():
            others = {other: address for other, address in contacts.items() if other != name}
            log = folder / f"{name}.log"
            assert case is not None
            faulty.append(
                stack.enter_context(Pretender(name, bind, proxy.address, others, CLUSTER, case.change, case.loss, log))
            )
        codes = _follow(nodes, faulty, case, int(sections["train"]["steps"]))
        summaries = [node.summary() for node in nodes.values()]
    ended = {name: how_it_ended(code) for name, code in codes.items() if code != 0}
    return _row(case.name if case else "", ended, summaries, time.monotonic() - began, load)


def _follow(
    nodes: Mapping[str, StormNode], faulty: Sequence[Pretender], case: Case | None, steps: int
) -> dict[str, int]:
    """Let the faulty nodes follow the honest ones, until those have ended; how they have."""
    codes: dict[str, int] = {}
    copied = [nodes[name].bind for name in HONEST]
    while len(codes) < len(nodes):
        began = time.monotonic()
        for pretender, address in zip(faulty, copied, strict=False):
            pretender.follow(address)
            if case is not None and case.falls_silent and pretender.step >= SILENT_SHARE * steps:
                pretender.stop()
        for name, node in nodes.items():
            if (code := node.reap()) is not None:
                codes[name] = code
        time.sleep(max(0.0, began + FOLLOW_SECONDS - time.monotonic()))
    return codes


def _row(
    case: str, ended: Mapping[str, str], summaries: Sequence[Mapping[str, Any]], seconds: float, load: float
) -> Row:
    done = [summary for summary in summaries if summary.get("state") == "done"]
    failures: dict[str, int] = {}
    for summary in done:
        for code, count in summary["exchange_failures"].items():
            failures[code] = failures.get(code, 0) + count
    return Row(
        case=case,
        ended=ended,
        steps=min((summary["steps"] for summary in done), default=0) if len(done) == len(HONEST) else 0,
        step_seconds=[summary["seconds_per_step"]["median"] for summary in done],
        accuracies=[summary["before_final_merge"]["test_accuracy"] for summary in done],
        consensus=[summary["test_accuracy"] for summary in done],
        merges=sum(summary["merges"] for summary in done),
        failures=dict(sorted(failures.items())),
        merged=sorted({name for summary in done for name in summary["final_merge"]["nodes"] if name in FAULTY}),
        seconds=seconds,
        load=load,
    )


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
