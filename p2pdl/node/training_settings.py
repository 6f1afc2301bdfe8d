"""What the configuration says about the training of one node, for the room that trains."""

from __future__ import annotations

from p2pdl.config import Configuration
from p2pdl.training import preparation


def preparation_settings(configuration: Configuration, node: str) -> preparation.PreparationSettings:
    """What the training room needs of the configuration."""
    alone_is_everything = configuration.data.partition == "all"
    return preparation.PreparationSettings(
        folder=configuration.folder,
        source=configuration.data.source,
        partition=configuration.data.partition,
        alpha=configuration.data.alpha,
        augment=configuration.data.augment,
        nodes=1 if alone_is_everything else len(configuration.founders),
        node_index=configuration.place(node),
        model=configuration.model.name,
        width=configuration.model.width,
        arguments=dict(configuration.model.arguments),
        optimizer=configuration.train.optimizer.name,
        learning_rate=configuration.train.optimizer.learning_rate,
        schedule=configuration.train.optimizer.schedule,
        warm_up=configuration.train.optimizer.warm_up,
        optimizer_arguments=dict(configuration.train.optimizer.arguments),
        loss=configuration.train.loss,
        mask=configuration.compress.mask,
        error_feedback=configuration.compress.error_feedback,
        batch_size=configuration.train.batch_size,
        passes=configuration.train.passes,
        steps=configuration.train.steps,
        seed=configuration.train.seed,
        evaluation_samples=configuration.metrics.evaluation_samples,
    )
