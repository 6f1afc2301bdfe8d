"""What a storm runs: the nodes, their configuration, and where that comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.harness.data import DATA
from p2pdl.config import load
from p2pdl.errors import StartupError
from p2pdl.node.local_nodes import cores
from tools.storm.cluster import ROOT

MNIST = DATA / "mnist.npz"

STEPS_PER_CORE_SECOND = 400.0
"""Steps of the default model that a quick core does in a second, roughly, while nodes are killed and started again: a
storm that outlasts the training shows nothing, and on a slower machine the nodes go on in peace for a while."""

SECTIONS: dict[str, dict[str, Any]] = {
    "model": {"name": "mlp", "width": 0.25},
    "train": {"batch_size": 64, "threads": 1},
    "gossip": {"start_wait": 120, "linger": 900},
    # Restarts are counted within an hour, which a storm of minutes stands for.
    "checkpoint": {"every": 3, "restarts": 1000},
}
"""What is trained where no file says it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One storm.

    Attributes:
        seed: Decides what befalls whom.
        nodes: The nodes' names.
        seconds: Length of the storm.
        every: Mean seconds from one event to the next.
        kinds: What may befall a node.
        sections: The configuration without `cluster` and `nodes`.
        beside: The folder from which its relative paths count; empty if it has none.
    """

    seed: int
    nodes: Sequence[str]
    seconds: float
    every: float
    kinds: Sequence[str]
    sections: Mapping[str, Any] = field(default_factory=dict)
    beside: str = ""

    @property
    def steps(self) -> int:
        """Steps that each node has to do."""
        steps: int = self.sections["train"]["steps"]
        return steps

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Plan:
        """The plan out of the first line of a journal.

        Raises:
            StartupError: That line does not hold one.
        """
        try:
            plan = cls(**{name: settings[name] for name in cls.__dataclass_fields__})
            return plan if plan.steps > 0 and plan.nodes else cls.from_json({})
        except (KeyError, TypeError) as error:
            raise StartupError(f"the journal's first line holds no plan: {error}", "name another journal") from None


def default_sections(data: str, seed: int, steps: int | None, nodes: int, seconds: float) -> dict[str, Any]:
    """What is trained where no file says it.

    Args:
        data: `digits`, `mnist`, or `auto` for the latter where it is there.
        seed: Of the training.
        steps: Of each node; None for about as many as the storm lasts.
        nodes: How many share this machine.
        seconds: Length of the storm.

    Raises:
        StartupError: The data are not there.
    """
    if data == "mnist" and not MNIST.exists():
        raise StartupError(
            f"there is no {MNIST}", "set P2PDL_DATA to the folder that holds mnist.npz, or --data digits"
        )
    source = f"npz:{MNIST.resolve()}" if data == "mnist" or (data == "auto" and MNIST.exists()) else "digits"
    about = round(STEPS_PER_CORE_SECOND * seconds * max(1, cores()) / nodes)
    return with_needs({**SECTIONS, "data": {"source": source}}, seed, steps or about)


def sections_of(file: Path, seed: int, steps: int | None) -> tuple[list[str], dict[str, Any]]:
    """The nodes of a configuration file, and its sections with what a storm needs.

    Args:
        file: The file.
        seed: Of the training; the file's where None is not given there.
        steps: Of each node; the file's where None.

    Raises:
        ConfigurationError: The file is wrong.
        StartupError: It does not say how many steps there are.
    """
    configuration = load(file)
    sections = configuration.model_dump(mode="json", exclude_unset=True, exclude={"file", "cluster", "nodes", "joined"})
    steps = steps or configuration.train.steps
    if steps is None:
        raise StartupError(f"{file} says how many passes, not how many steps", "give the number of --steps")
    return list(configuration.names), with_needs(sections, seed, steps)


def with_needs(sections: Mapping[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """Sections of a configuration with what a storm needs: a number of steps, a seed, lines often enough, no keys."""
    train = {key: value for key, value in sections.get("train", {}).items() if key != "passes"}
    metrics = {**sections.get("metrics", {}), "interval": 0.5}
    return {
        **sections,
        "train": {**train, "seed": seed, "steps": steps},
        "metrics": metrics,
        # Everything is on this machine, and whoever asks the nodes whom they see has no key.
        "security": {"mode": "none"},
    }


def new_folder(wanted: Path | None, seed: int) -> Path:
    """A folder for a storm that is not there yet: the one that is wanted, or the next free one of a seed."""
    if wanted is not None:
        return wanted
    parent = ROOT / "runs"
    number = 1
    while (folder := parent / (f"storm-{seed}" if number == 1 else f"storm-{seed}-{number}")).exists():
        number += 1
    return folder
