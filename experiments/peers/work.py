"""What the tasks of a cluster train: the same model, data, batch and optimizer, whatever the strategy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod

STEPS_PER_CALL = 10
"""Steps that a worker does at once, as users of these strategies do, so that the scheduling weighs less."""

WARM_UP_CALLS = 2
"""Of each worker: they trace and place the functions. They train, but no time of theirs is counted."""

LABEL_BYTES = 4


@dataclass(frozen=True, slots=True)
class Work:
    """What every task is told.

    Attributes:
        folder: Where the parts of the data and the test set lie.
        model: A built-in model.
        width: Factor on its width.
        input_shape: Shape of a sample.
        dtype: Of the stored samples, `uint8` or `float32`.
        classes: Number of classes.
        samples: Of the largest part.
        workers: How many train.
        batch: Samples of a worker's step.
        steps: Of each worker; under the parameter server, of all together so many times the workers.
        learning_rate: Of SGD.
        momentum: Of SGD.
        seed: Of the first weights, the parts, and the order of the samples.
    """

    folder: str
    model: str
    width: float
    input_shape: tuple[int, ...]
    dtype: str
    classes: int
    samples: int
    workers: int
    batch: int
    steps: int
    learning_rate: float
    momentum: float
    seed: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of one stored sample."""
        return prod(self.input_shape) * (1 if self.dtype == "uint8" else 4)

    @property
    def calls(self) -> int:
        """How often each worker does `STEPS_PER_CALL` steps, those that warm up included."""
        return max(WARM_UP_CALLS + 1, round(self.steps / STEPS_PER_CALL))

    def to_argument(self) -> str:
        """All of it as one command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> Work:
        """All of it out of the command line argument."""
        written = json.loads(argument)
        return cls(**{**written, "input_shape": tuple(written["input_shape"])})
