"""Eight nodes of which one after another is killed with -9 all end, with a model as good as if none had been.

Claim: every ten seconds a node's supervisor is killed with SIGKILL, its children die by themselves, and a second later
it is started again by the same command. Nobody does anything else; every node does all its steps and ends with exit
code 0, the consensus is within 0.5 points of an undisturbed run of the same seed, and nothing is left behind.

Source: the promises of this project, `docs/reliability.md`.

Every node is killed once. What is left behind would be processes, temporary files, stores in shared memory, and threads
or descriptors of the program that started the nodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness import data
from experiments.harness.experiment import Case, Conclusion, Desk, Figures, Results, Size, experiment
from experiments.harness.promises import at_least, at_most
from experiments.harness.variants import signed
from p2pdl.report.findings import FoundTable, LineChart, Series
from p2pdl.report.words import decimals, seconds
from p2pdl.types import JsonObject
from tools.storm.events import Event
from tools.storm.observations import Observations
from tools.storm.plan import Plan
from tools.storm.promises import consensus, finished, returns, standstills
from tools.storm.running import braved
from tools.storm.schedule import round_robin

AWAY_SECONDS = 1.0
"""From a supervisor's death to the start of the next one."""

PATIENCE_SECONDS = 1800.0
"""How long the nodes may take after the last kill; a busy machine is no failure."""

POINTS = 0.5
"""What the kills may cost, in hundredths of the accuracy."""

UNDISTURBED, KILLED = "undisturbed", "killed"
NODES = {Size.SMOKE: 2, Size.SMALL: 8, Size.PAPER: 16}
EVERY = {Size.SMOKE: 1.0, Size.SMALL: 10.0, Size.PAPER: 10.0}
"""Seconds from one kill to the next."""

STEPS = {Size.SMOKE: 600, Size.SMALL: 16_000, Size.PAPER: 40_000}
"""Of each node: long enough for all kills, on a quick machine too."""

WIDTH = {Size.SMOKE: 0.1, Size.SMALL: 0.25, Size.PAPER: 0.5}
MINUTES = {Size.SMOKE: 0.3, Size.SMALL: 5.0, Size.PAPER: 60.0}
SAVE_EVERY = {Size.SMOKE: 1.0, Size.SMALL: 5.0, Size.PAPER: 5.0}
MOST_POINTS = 150
SEED = 0
NOTES = [
    "A node that is started again goes on from its last checkpoint: a kill costs at most the steps since then.",
    "All nodes share one machine's cores: while one is away the others are quicker, while it loads TensorFlow slower.",
]


def cases(size: Size) -> Sequence[Case]:
    name = "digits" if size == Size.SMOKE else "mnist"
    plan = Plan(SEED, _names(size), 0.0, EVERY[size], ["kill"], _sections(size))
    settings = {"plan": plan.to_json(), "data": name}
    kills = round_robin(SEED, plan.nodes, EVERY[size], 1, AWAY_SECONDS)
    runs: list[tuple[str, str, JsonObject, Sequence[Event]]] = [
        (UNDISTURBED, "nobody is killed", {}, []),
        (KILLED, f"one of {NODES[size]} nodes is killed every {EVERY[size]:g} s", {"away": AWAY_SECONDS}, kills),
    ]
    return [
        Case(case, title, settings | more, _work(plan, name, events), MINUTES[size], lambda: data.missing(name))
        for case, title, more, events in (runs[1:] if size == Size.SMOKE else runs)
    ]


def _names(size: Size) -> list[str]:
    return [f"node{number}" for number in range(1, NODES[size] + 1)]


def _sections(size: Size) -> JsonObject:
    return {
        "model": {"name": "mlp", "width": WIDTH[size]},
        "train": {"steps": STEPS[size], "batch_size": 64, "threads": 1, "seed": SEED},
        "gossip": {"start_wait": 300, "linger": PATIENCE_SECONDS},
        "checkpoint": {"every": SAVE_EVERY[size]},
        "metrics": {"interval": 0.5},
    }


def _work(plan: Plan, name: str, kills: Sequence[Event]) -> Any:
    """What does a case."""

    def work(desk: Desk) -> Figures:
        sections = {**plan.sections, "data": {"source": data.source(name, desk.folder)}}
        chosen = Plan(plan.seed, plan.nodes, plan.seconds, plan.every, plan.kinds, sections)
        folder = desk.folder / "storm"
        seen = braved(
            chosen, kills, folder, PATIENCE_SECONDS, proxied=False, tell=lambda at, node, text: desk.say(None, text)
        )
        shutil.rmtree(folder)
        return figures(kills, seen)

    return work


def figures(kills: Sequence[Event], seen: Observations) -> Figures:
    """What a run comes to.

    Args:
        kills: Of its nodes.
        seen: What was observed.

    Returns:
        `accuracy` of the consensus, None where there is none, and how many nodes are in it (`merged`); `steps`, the
        fewest of a node; `kills`; `return_seconds` from each start to the next step; `longest_gap_seconds` of a node
        that could train; `broken`: what did not go as it should, in words; `curves`: steps by seconds of each node.
    """
    accuracy, merged = consensus(seen.endings)
    struck = {stop.node for stop in seen.stops}
    broken = [*finished(seen).broken, *(f"left: {what}" for what in seen.left)]
    broken += [f"{event.victim} was done before it was to be killed" for event in kills if event.victim not in struck]
    if accuracy is None:
        broken.append("there is no consensus")
    return {
        "accuracy": accuracy,
        "merged": merged,
        "nodes": len(seen.endings),
        "steps": min((end.steps for end in seen.endings.values()), default=0),
        "kills": len(seen.stops),
        "return_seconds": [took for _, took in returns(seen)],
        "longest_gap_seconds": max((gap for node in seen.lines for gap, _ in standstills(seen, node)), default=None),
        "broken": broken,
        "curves": {node: _curve(lines) for node, lines in seen.lines.items()},
    }


def _curve(lines: Sequence[Mapping[str, Any]]) -> JsonObject:
    """Some of a node's lines."""
    kept = lines[:: max(1, len(lines) // MOST_POINTS)]
    return {"time": [round(line["time"], 2) for line in kept], "step": [line["step"] for line in kept]}


def conclude(size: Size, results: Results) -> Conclusion:
    calm, stormy = results.get(UNDISTURBED), results.get(KILLED)
    lost = None
    if calm and stormy and calm["accuracy"] is not None and stormy["accuracy"] is not None:
        lost = 100 * (calm["accuracy"] - stormy["accuracy"])
    promises = [
        at_most("points that the kills cost", POINTS, lost),
        at_least("nodes in the consensus after the kills", NODES[size], stormy and stormy["merged"]),
        at_least("kills", NODES[size], stormy and stormy["kills"]),
        at_most("what did not go as it should", 0, stormy and len(stormy["broken"])),
    ]
    decided = [] if size == Size.SMOKE else promises
    if not results:
        return Conclusion("Nothing has been run yet.", decided, notes=NOTES)
    rows = [_row(title, found, lost) for title, found in ((UNDISTURBED, calm), (KILLED, stormy)) if found]
    heads = ["", "nodes", "steps of each", "kills", "back after, median", "at most", "consensus", "of nodes", "points"]
    broken = [f"{case}: {line}" for case, found in results.items() for line in found["broken"]]
    return Conclusion(
        _sentence(stormy, lost),
        decided,
        [FoundTable("With and without kills", heads, rows)],
        [_chart(stormy)] if stormy else [],
        [*NOTES, *broken],
    )


def _sentence(stormy: Figures | None, lost: float | None) -> str:
    if stormy is None:
        return "Nobody has been killed yet."
    sentence = f"After {stormy['kills']} kills {stormy['merged']} of {stormy['nodes']} nodes are in the consensus"
    return f"{sentence}, {signed(None if lost is None else -lost)} points from the undisturbed run."


def _row(title: str, found: Figures, lost: float | None) -> list[str]:
    took = sorted(found["return_seconds"])
    return [
        title,
        str(found["nodes"]),
        str(found["steps"]),
        str(found["kills"]),
        seconds(took[len(took) // 2] if took else None),
        seconds(took[-1] if took else None),
        decimals(found["accuracy"], 4),
        str(found["merged"]),
        "-" if title == UNDISTURBED else signed(None if lost is None else -lost),
    ]


def _chart(stormy: Figures) -> LineChart:
    began = min(curve["time"][0] for curve in stormy["curves"].values() if curve["time"])
    return LineChart(
        "steps",
        "Steps of the nodes while one after another is killed",
        "A node that was killed goes on from its last checkpoint.",
        "seconds",
        "steps done",
        [
            Series(node, [moment - began for moment in curve["time"]], curve["step"])
            for node, curve in stormy["curves"].items()
        ],
    )


EXPERIMENT = experiment(__name__, __doc__, cases, conclude, rank=80)
