"""What a configuration comes to, found out in a process of its own: TensorFlow's noise and memory stay there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from p2pdl import errors
from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError, ProcessDied
from p2pdl.node.children import trainer_environment
from p2pdl.types import NodeId

NOISE_LINES = 5


@dataclass(frozen=True, slots=True)
class Inspection:
    """A configuration's model and data.

    Attributes:
        parameters: The model's parameters, those that are not trained included.
        exchange_nbytes: Bytes of weights in one pull.
        dataset_size: Training samples in all.
        samples: Training samples of each node.
        steps: Optimizer steps of each node.
        spec: The digest of the model's layout.
        spec_rows: Its rows, as `WeightSpec.rows` gives them.
    """

    parameters: int
    exchange_nbytes: int
    dataset_size: int
    samples: dict[NodeId, int]
    steps: dict[NodeId, int]
    spec: str
    spec_rows: list[str]


def inspect(configuration: Configuration) -> Inspection:
    """Load the data and build the model as every node of the cluster would.

    Args:
        configuration: The cluster.

    Raises:
        StartupError: The data or the model cannot be had as configured.
        ProcessDied: The process that tried it ended without a word.
    """
    process = subprocess.run(
        [sys.executable, "-m", "p2pdl.node.inspection_process"],
        input=configuration.to_json(),
        capture_output=True,
        text=True,
        env=trainer_environment(configuration.train.threads),
    )
    if process.returncode != 0 or not process.stdout:
        noise = "\n".join(process.stderr.splitlines()[-NOISE_LINES:])
        raise ProcessDied(
            f"the process that builds the model ended with exit code {process.returncode}; its last lines:\n{noise}",
            "is there enough memory for the data and the model?",
        )
    answer = json.loads(process.stdout)
    if "error" in answer:
        kind, message, remedy = answer["error"]
        error_class: type[P2pdlError] = getattr(errors, kind)
        raise error_class(message, remedy)
    return Inspection(**answer)
