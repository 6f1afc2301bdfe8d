"""How the accuracy of a run has grown over time and over the bytes of its busiest link, and who was first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.harness.experiment import Figures
from experiments.harness.promises import ratio
from p2pdl.report.run import Column


@dataclass(frozen=True)
class Course:
    """A run from moment to moment: one for each evaluation of any of its nodes.

    Attributes:
        seconds: Of training, without that of evaluations; ascending, shape (moments,).
        accuracy: The median of what the nodes' own weights were worth when last evaluated.
        node_bytes: What a node has received, the median.
        busiest_bytes: What the busiest link has carried in one direction: with a server what all have received from it,
            else what the node that has received most has.
    """

    seconds: Column
    accuracy: Column
    node_bytes: Column
    busiest_bytes: Column

    def first(self, accuracy: float) -> int | None:
        """The number of the first moment with such an accuracy; None without one."""
        [there] = np.nonzero(self.accuracy >= accuracy)
        return int(there[0]) if len(there) else None


NOWHERE = Course(np.empty(0), np.empty(0), np.empty(0), np.empty(0))


def course_of(found: Figures) -> Course:
    """The course of a run that was evaluated while it went on.

    Args:
        found: Its `run_figures`.

    Returns:
        Empty if a node that trains was never evaluated.
    """
    has_server = any(not node["curve"] for node in found["nodes"].values())
    lines = [_evaluations(node["curve"]) for node in found["nodes"].values() if node["curve"]]
    if not lines or not all(len(seconds) for seconds, _, _ in lines):
        return NOWHERE
    begun = max(seconds[0] for seconds, _, _ in lines)
    moments = np.unique(np.concatenate([seconds for seconds, _, _ in lines]))
    moments = moments[moments >= begun]
    # Who has ended is worth what he was worth at last, and receives nothing more.
    own = [accuracy[np.searchsorted(seconds, moments, side="right") - 1] for seconds, accuracy, _ in lines]
    received = [np.interp(moments, seconds, nbytes) for seconds, _, nbytes in lines]
    busiest = np.sum(received, axis=0) if has_server else np.max(received, axis=0)
    return Course(moments, np.median(own, axis=0), np.median(received, axis=0), busiest)


def _evaluations(curve: Mapping[str, list[float | None]]) -> tuple[Column, Column, Column]:
    """Seconds of training, accuracies and bytes received, of the lines with an evaluation."""
    columns = {name: np.array(values, dtype=np.float64) for name, values in curve.items()}
    kept = ~np.isnan(columns["test_accuracy"])
    seconds = columns["seconds"] - np.nan_to_num(columns["evaluation_seconds"])
    # Before the first step there was nothing to receive.
    return seconds[kept], columns["test_accuracy"][kept], np.nan_to_num(columns["bytes_received"][kept])


@dataclass(frozen=True)
class Arrival:
    """When a run had come to an accuracy, and what it had taken until then.

    Attributes:
        seconds: Of training, without that of evaluations.
        node_bytes: What a node had received, the median.
        busiest_bytes: What the busiest link had carried in one direction, as in `Course`.
    """

    seconds: float
    node_bytes: float
    busiest_bytes: float


def end_of(found: Figures) -> Arrival | None:
    """The end of a run without a server, the final merge included; None if a node has left no summary.

    Args:
        found: Its `run_figures`.
    """
    summaries = [node["summary"] for node in found["nodes"].values()]
    if not all(summary.get("final_merge") for summary in summaries):
        return None
    trained = max(summary["seconds"] - summary["evaluation_seconds"] for summary in summaries)
    merged = max(summary["final_merge"]["seconds"] for summary in summaries)
    received = [summary["bytes_received"] for summary in summaries]
    return Arrival(trained + merged, float(np.median(received)), float(max(received)))


class Race:
    """Runs over the same links, with and without a server.

    Args:
        found: The `run_figures` of each system.
        servers: Those with a server.
        lengths: Of some systems without one the `run_figures` of runs of several lengths.

    Attributes:
        found: As given.
        courses: Of each.
        best: The system with a server that ends with the best accuracy; empty without one.
        target: That accuracy; None without one.
        fastest: The system with a server that has it first; empty without one.
    """

    def __init__(
        self,
        found: Mapping[str, Figures],
        servers: Collection[str],
        lengths: Mapping[str, Sequence[Figures]] | None = None,
    ) -> None:
        self.found = found
        self.courses = {name: course_of(figures) for name, figures in found.items()}
        self._lengths = lengths or {}
        self._ends = {name: found[name]["accuracy"] for name in found if name in servers}
        known = {name: end for name, end in self._ends.items() if end is not None}
        self.best = max(known, key=lambda name: known[name], default="")
        self.target = known.get(self.best)
        times = {name: time for name in known if (time := self.seconds(name, self.target)) is not None}
        self.fastest = min(times, key=lambda name: times[name], default="")

    def ends(self, name: str) -> list[tuple[Arrival, float]]:
        """When runs without a server were over, and what their consensus was worth then; the shortest first."""
        found = []
        for figures in self._lengths.get(name, ()):
            end = end_of(figures)
            if end is not None and figures["is_consensus"]:
                found.append((end, float(figures["accuracy"])))
        return sorted(found, key=lambda pair: pair[0].seconds)

    def arrival(self, name: str, accuracy: float | None) -> Arrival | None:
        """When a system had come to an accuracy; None if it never did.

        It had where the median of the nodes' own weights first was so good, or where the weights were that a whole run
        ended with: a server's, or the consensus after the final merge of a run that was as long as that.
        """
        if accuracy is None:
            return None
        found = [end for end, worth in self.ends(name) if worth >= accuracy]
        course = self.courses.get(name, NOWHERE)
        moment = course.first(accuracy)
        if moment is None and (self._ends.get(name) or 0.0) >= accuracy and len(course.seconds):
            moment = len(course.seconds) - 1
        if moment is not None:
            columns = (course.seconds, course.node_bytes, course.busiest_bytes)
            found.append(Arrival(*(float(column[moment]) for column in columns)))
        return min(found, key=lambda arrival: arrival.seconds, default=None)

    def seconds(self, name: str, accuracy: float | None) -> float | None:
        """The same in seconds of training."""
        arrival = self.arrival(name, accuracy)
        return None if arrival is None else arrival.seconds

    def share(self, name: str) -> float | None:
        """The time of a system to the target over that of the fastest with a server; None if it is not known."""
        return ratio(self.seconds(name, self.target), self.seconds(self.fastest, self.target))

    def share_of(self, name: str, server: str) -> float | None:
        """The time of a system to the accuracy with which one with a server ends, over the latter's own time to it."""
        end = self._ends.get(server)
        return ratio(self.seconds(name, end), self.seconds(server, end))
