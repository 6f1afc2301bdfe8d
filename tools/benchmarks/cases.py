"""What is trained in the rows that need a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

TRIAL_WIDTH, TRIAL_BATCH = 0.02, 2


@dataclass(frozen=True, slots=True)
class Case:
    """A built-in model and its batches.

    Attributes:
        model: Its name.
        width: Factor on its width.
        batch: Samples of a step.
        block: Steps in a row of one measurement.
    """

    model: str
    width: float
    batch: int
    block: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (28, 28, 1) if self.model == "mlp" else (32, 32, 3)

    def sized(self, trial: bool) -> Case:
        """The case itself, or one as small as can be."""
        return replace(self, width=TRIAL_WIDTH, batch=TRIAL_BATCH, block=2) if trial else self


CASES = {
    "mlp": Case("mlp", 1.0, 64, 100),
    "vgg19-quarter": Case("vgg19", 0.25, 32, 20),
    "vgg19": Case("vgg19", 1.0, 32, 4),
}
