"""One run of a parameter server and workers of given speeds until its weights are good enough, as a case."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from experiments.harness import data
from experiments.harness.experiment import Case, Desk, Figures
from experiments.harness.trained import trained_case
from experiments.observed_server import Seen, train_and_look
from experiments.ports import free_ports
from p2pdl.config import Configuration, load
from p2pdl.node.run_folder import run_folder
from p2pdl.types import JsonObject

ENDLESS = 100_000_000
"""Steps of a worker: it is ended from outside."""


@dataclass(frozen=True)
class Watched:
    """What is run.

    Attributes:
        sections: Of the configuration, those that tell policies apart.
        data: What is trained on, see `experiments.harness.data`.
        width: Of the `mlp`.
        workers: How many.
        step: Seconds that a step of a worker takes, whatever it computes.
        slower: How many times longer one of the last worker takes.
        accuracy: What the server's weights are to reach on the test set.
        limit: Seconds of training after which they have not.
        look: Seconds between two looks at them.
        seed: Of weights, parts and batches.
    """

    sections: JsonObject
    data: str
    width: float
    workers: int
    step: float
    slower: float
    accuracy: float
    limit: float
    look: float = 1.0
    seed: int = 0


def watched_case(name: str, title: str, watched: Watched, minutes: float) -> Case:
    """A case that trains once; its figures are those of `figures`."""
    return trained_case(name, title, watched, train, minutes)


def train(desk: Desk, watched: Watched) -> Figures:
    """Train until the accuracy is reached, or the limit.

    Raises:
        DataUnavailable: The data cannot be loaded.
        ProcessDied: A node has ended, or nobody trains.
    """
    configuration = configured(watched, desk.folder)
    lengths = {name: watched.step for name in configuration.founders}
    lengths[configuration.founders[-1]] *= watched.slower
    seen = train_and_look(configuration, lengths, watched.accuracy, watched.limit, watched.look, desk.say)
    shutil.rmtree(run_folder(configuration))
    return figures(seen, watched.accuracy)


def configured(watched: Watched, folder: Path) -> Configuration:
    """The configuration of a run, whose files are in a folder."""
    ports = free_ports(watched.workers + 1)
    entries = [{"name": "server", "address": f"127.0.0.1:{ports[0]}", "role": "server"}]
    entries += [{"name": f"worker{n}", "address": f"127.0.0.1:{port}"} for n, port in enumerate(ports[1:], start=1)]
    sections = {
        **watched.sections,
        "model": {"name": "mlp", "width": watched.width},
        "data": {"source": data.source(watched.data, folder)},
        "train": {"steps": ENDLESS, "batch_size": 64, "threads": 1, "seed": watched.seed},
        "strategy": "parameter-server",
    }
    file = folder / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "watched"}, "nodes": entries, **sections}))
    return load(file, ())


def figures(seen: Seen, accuracy: float) -> Figures:
    """What a run has come to.

    Args:
        seen: What was observed.
        accuracy: To be reached.

    Returns:
        `seconds` to the accuracy, None if it was not reached; `looks`, their `seconds` and `accuracy`;
        `steps_per_second` of each worker, the slow one last; `pushes_per_second` of all; `commits_per_period` at the
        end, None where the policy has none.
    """
    last = seen.looks[-1]
    return {
        "seconds": last.seconds if last.accuracy >= accuracy else None,
        "looks": {
            "seconds": [round(look.seconds, 3) for look in seen.looks],
            "accuracy": [round(look.accuracy, 5) for look in seen.looks],
        },
        "steps_per_second": list(seen.steps_per_second.values()),
        "pushes_per_second": seen.server["pushes"] / last.seconds,
        "commits_per_period": seen.server.get("policy_commits_per_period"),
    }
