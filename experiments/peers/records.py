"""Each worker's part of the data, as a file that TensorFlow's own input pipeline reads in any process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.peers.work import LABEL_BYTES, Work
from p2pdl.partition import partition
from p2pdl.training.data.dataset import UINT8_SCALE, Dataset

if TYPE_CHECKING:
    import tensorflow as tf


def write(dataset: Dataset, folder: Path, workers: int, seed: int) -> int:
    """Write the iid parts that p2pdl's nodes have, and the test set.

    Args:
        dataset: What is trained on.
        folder: Where the files go.
        workers: How many parts.
        seed: Of the partition.

    Returns:
        Samples of the largest part.
    """
    parts = partition("iid", dataset.y_train, workers, seed)
    for number, rows in enumerate(parts):
        values = np.ascontiguousarray(dataset.x_train[rows].reshape(len(rows), -1)).view(np.uint8)
        labels = np.ascontiguousarray(dataset.y_train[rows, np.newaxis], np.int32).view(np.uint8)
        np.hstack([labels, values]).tofile(folder / f"part{number}")
    np.savez(folder / "test.npz", x=dataset.x_test, y=dataset.y_test)
    return max(map(len, parts))


def read_test(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test set: samples, (n, *input_shape), and labels, (n,)."""
    with np.load(folder / "test.npz") as archive:
        return archive["x"], archive["y"]


def batches(work: Work, worker: int | tf.Tensor) -> tf.data.Dataset:
    """An endless row of a worker's batches: its part in a new order in every pass.

    Args:
        work: What is trained.
        worker: Its number; a tensor where the worker alone knows it.

    Returns:
        Pairs of inputs, float32, (batch, *input_shape), and labels, int32, (batch,).
    """
    import tensorflow as tf

    def decoded(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.io.decode_raw(records, tf.uint8)
        labels = tf.bitcast(tf.reshape(values[:, :LABEL_BYTES], (work.batch, LABEL_BYTES)), tf.int32)
        inputs = values[:, LABEL_BYTES:]
        if work.dtype == "uint8":
            inputs = tf.cast(inputs, tf.float32) * UINT8_SCALE
        else:
            inputs = tf.bitcast(tf.reshape(inputs, (work.batch, work.sample_bytes // 4, 4)), tf.float32)
        return tf.reshape(inputs, (work.batch, *work.input_shape)), labels

    name = tf.strings.join([f"{work.folder}/part", tf.strings.as_string(worker)])
    records = tf.data.FixedLengthRecordDataset(name, LABEL_BYTES + work.sample_bytes).cache()
    mixed = records.shuffle(work.samples, seed=work.seed).repeat()
    return mixed.batch(work.batch, drop_remainder=True).map(decoded).prefetch(2)
