"""One run of a storm from its first node to its last, undisturbed or not, and everything that was seen of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pdl.errors import ProcessDied
from tools.storm import watching
from tools.storm.cluster import StormCluster
from tools.storm.events import Event
from tools.storm.journal import Journal
from tools.storm.observations import Observations
from tools.storm.plan import Plan
from tools.storm.processes import marked
from tools.storm.promises import AGREE_SECONDS
from tools.storm.report import say
from tools.storm.striking import Say, Striker

LOOK_SECONDS = 0.05
ASK_AGAIN_SECONDS = 0.5

START_SECONDS = 300.0
"""How long all nodes may take to save their first checkpoints: they load TensorFlow all at the same time."""

ORPHAN_SECONDS = 10.0
"""How long after a supervisor its children may still be seen."""


class Run:
    """One run; its parts are called one after another, all of them by `run`.

    Args:
        cluster: Its nodes, none of them started; entered by the caller.
        events: What befalls them.
        journal: Where it is written down.
        say: Tells people.
        steps: Steps that each node has to do.
        patience: How long, after the storm, they may take to finish.
    """

    def __init__(
        self,
        cluster: StormCluster,
        events: Sequence[Event],
        journal: Journal,
        say: Say,
        steps: int,
        patience: float,
    ) -> None:
        self._cluster = cluster
        self._nodes = cluster.nodes
        self._say = say
        self._patience = patience
        self._is_storm = bool(events)
        self._striker = Striker(self._nodes, events, journal, say)
        self._sampler = watching.Sampler(self._nodes.values())
        self._began: float | None = None
        self.seen = Observations(steps)

    @property
    def _at(self) -> float:
        """Seconds since the storm began; 0 before that."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def run(self) -> Observations:
        """Start the nodes, let the storm rage, see them agree, and wait for them.

        Raises:
            ProcessDied: The nodes do not even start.
        """
        self._start()
        self._wait(lambda: self._striker.is_over, float("inf"))
        self._see_them_agree()
        if not self._wait(lambda: len(self._striker.ended) == len(self._nodes), self._patience):
            running = sorted(self._nodes.keys() - self._striker.ended)
            self._striker.wrong.append(f"{', '.join(running)} had not ended {self._patience:g} s after the storm")
        elif not self._wait(lambda: not marked(self._cluster.mark), ORPHAN_SECONDS):
            self.seen.left.append(f"processes {marked(self._cluster.mark)}")
        seen = self.seen
        seen.stops, seen.wrong, seen.samples = self._striker.stops, self._striker.wrong, self._sampler.samples
        seen.lines = watching.lines_of(self._nodes)
        seen.endings = {name: watching.ending_of(node) for name, node in self._nodes.items()}
        return seen

    def _start(self) -> None:
        for node in self._nodes.values():
            node.start()
        ready = self._wait(
            lambda: watching.are_training(self._nodes.values()) or bool(self._striker.ended), START_SECONDS
        )
        if not ready or self._striker.ended:
            why = "; ".join(self._striker.wrong) or f"they have saved no checkpoints within {START_SECONDS:g} s"
            raise ProcessDied(f"the nodes have not started as they should: {why}", "look at what they have said")
        self._began = time.monotonic()
        self._say(0.0, "", f"every node has saved a checkpoint{': the storm begins' if self._is_storm else ''}")

    def _see_them_agree(self) -> None:
        if len(self._striker.ended) == len(self._nodes):
            return
        began = time.monotonic()
        self.seen.calm = True
        if self._is_storm:
            self._say(self._at, "", "the storm is over")
        while (passed := time.monotonic() - began) < AGREE_SECONDS:
            self.seen.disagreements = watching.unlike_views(self._nodes)
            if not self.seen.disagreements:
                self.seen.agreed_after = passed
                break
            self._wait(lambda: False, ASK_AGAIN_SECONDS)
        self._say(self._at, "", "; ".join(self.seen.disagreements) or "all nodes see each other")
        self.seen.stores = watching.stores_and_nodes(self._nodes, self._cluster.mark)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look after the nodes until something is so, or the time is over; whether it is so."""
        give_up_at = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= give_up_at:
                return False
            self._striker.look(self._at)
            self._sampler.look()
            time.sleep(LOOK_SECONDS)
        return True


def braved(
    plan: Plan, events: Sequence[Event], folder: Path, patience: float, proxied: bool = True, tell: Say = say
) -> Observations:
    """Run a cluster through a storm, end whatever is left of it, and see what that was.

    Args:
        plan: What to run.
        events: What befalls it.
        folder: A new folder.
        patience: Seconds after the storm within which the nodes have to finish.
        proxied: Whether there is a fault proxy before each node; events that strike links need it.
        tell: Tells people.

    Raises:
        StartupError: The folder cannot be made.
        ProcessDied: The nodes do not even start.
    """
    before = watching.own_things()
    beside = Path(plan.beside) if plan.beside else None
    with StormCluster(folder, plan.nodes, plan.sections, proxied=proxied, beside=beside) as cluster:
        journal = Journal(folder / "journal.jsonl", plan.to_json())
        try:
            seen = Run(cluster, events, journal, tell, plan.steps, patience).run()
        finally:
            journal.close()
    gc.collect()
    seen.left += [f"the file {name}" for name in watching.temporary_files(folder)]
    after = watching.own_things()
    seen.left += [
        f"{after[what]} {what} of this program, {before[what]} before" for what in after if after[what] > before[what]
    ]
    return seen
