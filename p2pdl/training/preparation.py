"""Everything a trainer needs before its first step: data, partition, model, optimizer, compiled step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from p2pdl.errors import ModelUnavailable
from p2pdl.partition import partition
from p2pdl.training import losses
from p2pdl.training.batches import Batches
from p2pdl.training.data.registry import load
from p2pdl.training.mean_threshold import MeanThreshold
from p2pdl.training.models.registry import build
from p2pdl.training.schedule import Schedule
from p2pdl.training.step import Step, compile_step


@dataclass(frozen=True, slots=True)
class PreparationSettings:
    """What to train on what, as the sections `model`, `data`, `train` and `compress` say it.

    Attributes:
        folder: Folder that relative paths count from.
        source: Data source.
        partition: Name of the partition.
        alpha: Of the Dirichlet partition.
        augment: `none` or `flip`.
        nodes: Among how many nodes the data are divided.
        node_index: Which part is this node's, and part of every seed.
        model: Built-in name or `module:function`.
        width: Width factor of the built-in models.
        arguments: Keyword arguments of `module:function`.
        optimizer: Keras optimizer by name.
        learning_rate: Its learning rate, or the highest one of the schedule.
        schedule: How it changes, a key of `SCHEDULES`.
        warm_up: Share of the steps in which it grows.
        optimizer_arguments: Its other arguments.
        loss: `auto` or a Keras loss by name.
        mask: `magnitude`, `signed` or `none`.
        error_feedback: Whether what the mask drops is carried over.
        batch_size: Samples in a batch.
        passes: Passes over the node's part, if `steps` is None.
        steps: Steps to do.
        seed: Of initial weights, partition and batches.
        evaluation_samples: At most so many samples in an evaluation.
    """

    folder: Path
    source: str
    partition: str
    alpha: float
    augment: str
    nodes: int
    node_index: int
    model: str
    width: float
    arguments: Mapping[str, Any]
    optimizer: str
    learning_rate: float
    schedule: str
    warm_up: float
    optimizer_arguments: Mapping[str, Any]
    loss: str
    mask: str
    error_feedback: bool
    batch_size: int
    passes: float
    steps: int | None
    seed: int
    evaluation_samples: int


class Preparation:
    """The parts of one node's training: the data loaded, the model built, the step made.

    Args:
        settings: What to train on what.

    Attributes:
        model: The built model; all nodes start from the same weights.
        optimizer: As configured, inside a `MeanThreshold` unless the mask is `none`.
        loss: (labels, outputs) -> loss of each sample.
        batches: This node's batches.
        steps: Steps to do.
        schedule: Of the learning rate.
        partition_sizes: Samples of each node.
        dataset_size: Training samples in all.

    Raises:
        StartupError: The data or the model cannot be had as configured.
    """

    def __init__(self, settings: PreparationSettings) -> None:
        self._settings = settings
        self._dataset = load(settings.source, settings.folder)
        parts = partition(settings.partition, self._dataset.y_train, settings.nodes, settings.seed, settings.alpha)
        self.partition_sizes = [len(part) for part in parts]
        self.dataset_size = len(self._dataset.y_train)
        self._part = parts[settings.node_index % len(parts)]
        self.model = build(
            settings.model,
            input_shape=self._dataset.input_shape,
            classes=self._dataset.classes,
            width=settings.width,
            arguments=settings.arguments,
            seed=settings.seed,
            folder=settings.folder,
        )
        self.loss = losses.resolve(settings.loss, self.model)
        self.optimizer = make_optimizer(settings)
        self.batches = Batches(
            self._dataset.x_train,
            self._dataset.y_train,
            self._part,
            batch_size=settings.batch_size,
            seed=settings.seed,
            node_index=settings.node_index,
            augment=settings.augment,
        )
        self.steps = settings.steps if settings.steps is not None else self.batches.steps_for(settings.passes)
        self.schedule = Schedule(settings.schedule, settings.warm_up, self.steps)
        self.step: Step = compile_step(self.model, self.optimizer, self.loss)

    @property
    def partition_size(self) -> int:
        """Samples of this node."""
        return len(self._part)

    def warm_up(self) -> None:
        """Take one step and undo it: what compiling costs is paid before the others are met, not in the first step."""
        variables = [*self.model.variables, *self.optimizer.variables]
        before = [variable.numpy() for variable in variables]
        inputs, labels = self.batches.batch(0)
        self.step(tf.constant(inputs), tf.constant(labels))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def set_pace(self, step: int) -> None:
        """Give the optimizer the learning rate of a step, counted from 0; a constant one it has already."""
        if not self.schedule.is_constant:
            self.optimizer.learning_rate = self._settings.learning_rate * self.schedule.share(step)

    def density(self) -> float | None:
        """Share of the gradient entries that the mask kept in the last step; None without a mask."""
        return float(self.optimizer.density) if isinstance(self.optimizer, MeanThreshold) else None

    def evaluation_sets(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """`train`: the beginning of this node's part; `test`: the test set; both as stored in the data source."""
        part = self._part[: self._settings.evaluation_samples]
        dataset = self._dataset
        return {"train": (dataset.x_train[part], dataset.y_train[part]), "test": self.test_set}

    @property
    def test_set(self) -> tuple[np.ndarray, np.ndarray]:
        """The test samples and their labels as stored in the data source; no copies."""
        return self._dataset.x_test, self._dataset.y_test


def make_optimizer(settings: PreparationSettings) -> keras.optimizers.Optimizer:
    """The configured optimizer, with the configured mask.

    Raises:
        ModelUnavailable: Keras has no such optimizer, or it does not take the arguments.
    """
    config = {"learning_rate": settings.learning_rate, **settings.optimizer_arguments}
    try:
        inner = keras.optimizers.get({"class_name": settings.optimizer, "config": config})
    except (TypeError, ValueError, KeyError) as error:
        raise ModelUnavailable(
            f"train.optimizer: Keras makes no {settings.optimizer!r} with {config}: {str(error).splitlines()[0]}",
            "see keras.optimizers for names and arguments; those of the class go under train.optimizer.arguments",
        ) from None
    if settings.mask == "none":
        return inner
    return MeanThreshold(inner, rule=settings.mask, error_feedback=settings.error_feedback)


def use_threads(threads: int) -> None:
    """Bound the cores that one operation may use; 0 leaves all of them to TensorFlow. Before the first operation."""
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(1, min(2, threads)))
