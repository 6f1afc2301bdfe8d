"""Whether a storm has broken a promise: from what was observed to one verdict for each promise."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from p2pdl.types import NodeId
from tools.storm.observations import Ending, Observations, Stop
from tools.storm.processes import Sample

AGREE_SECONDS = 30.0
"""After the storm, how long the nodes' views may take to agree."""

ACCURACY_POINTS = 0.5
"""How far below an undisturbed run a consensus may lie, in hundredths."""

SETTLED_SECONDS = 10.0
"""After the first steps of all nodes, what is not counted: connections are made, and memory is taken."""

FEWEST_SAMPLES = 12
"""A process that was looked at less often says nothing about growth."""

GROWTH = {"descriptors": (8.0, 2.0), "threads": (4.0, 0.0), "mebibytes": (24.0, 0.0)}
"""By how much what a process holds may grow from the first to the last third of the time that counts, and by how much
more for each other node: connections come and go, and the heap of a server is not full from the beginning."""

GAP_SECONDS, RECOVERY_SECONDS = 15.0, 120.0
"""What `Limits` are as a rule: a machine on which several nodes load TensorFlow at the same time is slow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What people may set.

    Attributes:
        gap: Longest time in seconds between two steps of a node that could train.
        recovery: Longest time in seconds from a start of a node, or a trainer's death, to its next step.
        reference: Accuracy of the undisturbed run; None if there is none.
    """

    gap: float = GAP_SECONDS
    recovery: float = RECOVERY_SECONDS
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What has become of one promise.

    Attributes:
        promise: What was promised.
        holds: Whether it was kept; None if that was not looked at.
        found: What was seen, in a few words.
        broken: Each way in which it was broken, in words.
    """

    promise: str
    holds: bool | None
    found: str
    broken: Sequence[str] = ()


def judge(seen: Observations, limits: Limits) -> list[Verdict]:
    """One verdict for each promise.

    Args:
        seen: What was observed.
        limits: What people have set.
    """
    return [
        finished(seen),
        kept_stepping(seen, limits.gap),
        came_back(seen, limits.recovery),
        accurate(seen.endings, limits.reference),
        agreed(seen),
        flat(seen, "descriptors"),
        flat(seen, "threads"),
        flat(seen, "mebibytes", role="server"),
        one_store_each(seen),
        nothing_left(seen),
    ]


def finished(seen: Observations) -> Verdict:
    """Every node ends with exit code 0, all its steps done."""
    broken = list(seen.wrong)
    for node, end in seen.endings.items():
        if end.exit_code != 0 or end.state != "done" or end.steps < seen.steps:
            code = "has not ended" if end.exit_code is None else f"ended with exit code {end.exit_code}"
            broken.append(f"{node} {code}, {end.state or 'no summary'}, {end.steps} of {seen.steps} steps")
    return _verdict("every node finishes by itself", f"{len(seen.endings)} nodes, {seen.steps} steps each", broken)


def kept_stepping(seen: Observations, longest: float) -> Verdict:
    """No node that could train stood still for longer than so many seconds."""
    gaps = [(gap, node, at) for node in seen.lines for gap, at in standstills(seen, node)]
    gap, node, _ = max(gaps, default=(0.0, "nobody", 0.0))
    broken = [f"{node} stood still for {gap:.1f} s until {at:.1f}" for gap, node, at in gaps if gap > longest]
    return _verdict("healthy nodes keep stepping", f"longest gap {gap:.1f} s ({node}), {longest:g} s allowed", broken)


def standstills(seen: Observations, node: NodeId) -> list[tuple[float, float]]:
    """Seconds from each line of a node to its next one in which it could train, and when the latter was written."""
    lines, excuses = seen.lines[node], excused(seen, node)
    found = []
    for before, after in zip(lines, lines[1:], strict=False):
        begin, end = before["time"], after["time"]
        if before["step"] < seen.steps:
            found.append((end - begin - _covered(begin, end, excuses), end))
    return found


def excused(seen: Observations, node: NodeId) -> list[tuple[float, float]]:
    """Times in which a node could not train, in order and apart from each other."""
    times = [line["time"] for line in seen.lines[node]]
    spans = []
    for stop in _of(seen.stops, node):
        end = stop.end
        if stop.lost:
            end = next((time for time in times if time > stop.end), float("inf"))
        spans.append((stop.begin, end))
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def came_back(seen: Observations, longest: float) -> Verdict:
    """Every trainer that was ended made a step again soon after it could."""
    took = returns(seen)
    broken = [f"{node} took {seconds:.1f} s to come back" for node, seconds in took if seconds > longest]
    found = "nobody was killed"
    if took:
        lengths = [seconds for _, seconds in took]
        median, most = statistics.median(lengths), max(lengths)
        found = f"{len(took)} returns, median {median:.1f} s, longest {most:.1f} s, {longest:g} s allowed"
    return _verdict("those killed come back", found, broken)


def returns(seen: Observations) -> list[tuple[NodeId, float]]:
    """How long each trainer that was ended took to its next step; infinite if there was none.

    Not counted are those that were ended once more before that, and those that had nothing left to do.
    """
    took = []
    for node in seen.lines:
        stops = [stop for stop in _of(seen.stops, node) if stop.lost]
        for stop, then in zip_longest(stops, stops[1:]):
            back = next((line["time"] for line in seen.lines[node] if line["time"] > stop.end), None)
            if then is not None and (back is None or back > then.begin):
                continue
            if back is None and seen.endings[node].state == "done":
                continue
            took.append((node, float("inf") if back is None else back - stop.end))
    return took


def accurate(endings: Mapping[NodeId, Ending], reference: float | None) -> Verdict:
    """The consensus is as good as that of an undisturbed run."""
    promise = "the consensus is as accurate"
    accuracy, nodes = consensus(endings)
    if accuracy is None:
        return Verdict(promise, False, "there is no consensus", ["no node has left a merged model"])
    found = f"{accuracy:.4f} of {nodes} of {len(endings)} nodes"
    if reference is None:
        return Verdict(promise, None, f"{found}; nothing to compare with (--compare or --reference)")
    points = 100 * (accuracy - reference)
    return _verdict(
        promise,
        f"{found}, {reference:.4f} undisturbed: {points:+.2f} points, {-ACCURACY_POINTS:g} allowed",
        [f"it lies {-points:.2f} points lower"] if points < -ACCURACY_POINTS else [],
    )


def consensus(endings: Mapping[NodeId, Ending]) -> tuple[float | None, int]:
    """Accuracy of the merged model that holds the most nodes, and how many those are."""
    merged = [end for end in endings.values() if end.accuracy is not None]
    best = max(merged, key=lambda end: len(end.merged), default=None)
    return (None, 0) if best is None else (best.accuracy, len(best.merged))


def agreed(seen: Observations) -> Verdict:
    """All live nodes saw each other soon after the storm."""
    promise = "views agree after the storm"
    if not seen.calm:
        return Verdict(promise, None, "the nodes were done before the storm was over")
    if seen.agreed_after is None:
        return Verdict(promise, False, f"not within {AGREE_SECONDS:g} s", seen.disagreements)
    return Verdict(promise, True, f"after {seen.agreed_after:.1f} s, {AGREE_SECONDS:g} s allowed")


def flat(seen: Observations, what: str, role: str = "") -> Verdict:
    """No process holds more and more.

    Args:
        seen: What was observed.
        what: A key of `GROWTH`.
        role: Of which processes; of all where empty.
    """
    unit = " MiB" if what == "mebibytes" else ""
    promise = f"{'memory' if unit else what} of {f'{role}s' if role else 'processes'} flat"
    each, more = GROWTH[what]
    allowed = each + more * (len(seen.lines) - 1)
    growths = []
    for looks in _by_process(seen):
        values = [float(getattr(look, what)) for look in looks]
        if role in ("", looks[0].role) and len(values) >= FEWEST_SAMPLES:
            third = len(values) // 3
            growth = statistics.median(values[-third:]) - statistics.median(values[:third])
            growths.append((growth, f"{looks[0].node}'s {looks[0].role} {looks[0].process}"))
    if not growths:
        return Verdict(promise, None, "no process lived long enough")
    growth, most = max(growths)
    found = f"{len(growths)} processes, most {growth:+.0f}{unit} ({most}), {allowed:+.0f}{unit} allowed"
    return _verdict(promise, found, [f"{who} grew by {by:.0f}{unit}" for by, who in growths if by > allowed])


def _by_process(seen: Observations) -> list[list[Sample]]:
    """The looks at each process that count: all nodes have trained by then, and its own has since the process began."""
    firsts = [lines[0]["time"] if lines else float("inf") for lines in seen.lines.values()]
    all_train = max(firsts, default=float("inf"))
    found: dict[tuple[str, int], list[Sample]] = {}
    for look in seen.samples:
        found.setdefault((look.node, look.process), []).append(look)
    counted = []
    for (node, _), looks in found.items():
        own = next((line["time"] for line in seen.lines[node] if line["time"] > looks[0].time), float("inf"))
        since = max(own, all_train) + SETTLED_SECONDS
        counted.append([look for look in looks if look.time >= since])
    return [looks for looks in counted if looks]


def one_store_each(seen: Observations) -> Verdict:
    """After the storm there was one store in memory for each live node."""
    promise = "one store in memory for each node"
    if seen.stores is None:
        return Verdict(promise, None, "no node was left to look at")
    stores, live = seen.stores
    return _verdict(promise, f"{stores} for {live} nodes", [] if stores == live else [f"{stores} stores"])


def nothing_left(seen: Observations) -> Verdict:
    """No process, file, descriptor or thread is left."""
    return _verdict("nothing is left", "no process, file, store, thread" if not seen.left else "", seen.left)


def _verdict(promise: str, found: str, broken: Sequence[str]) -> Verdict:
    return Verdict(promise, not broken, found, broken)


def _of(stops: Sequence[Stop], node: NodeId) -> list[Stop]:
    return sorted((stop for stop in stops if stop.node == node), key=lambda stop: stop.begin)


def _covered(begin: float, end: float, spans: Sequence[tuple[float, float]]) -> float:
    """Seconds of a time that lie within some others, which do not touch each other."""
    return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in spans)
