"""Weight stores and models for tests."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import numpy as np

from p2pdl.spec import WeightSpec
from p2pdl.store import memory
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector


def dense_spec(elements: int, name: str = "dense/kernel") -> WeightSpec:
    """The layout of a model with one variable."""
    return WeightSpec.layout([(name, (elements,), "float32", True)])


def random_vector(size: int, seed: int = 0) -> Float32Vector:
    """Finite float32 values."""
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def publish(writer: StoreWriter, vector: Float32Vector, *, step: int = 1, final: bool = False) -> int | None:
    """Publish a copy of a vector."""
    return writer.publish(lambda target: np.copyto(target, vector), step=step, samples=64 * step, loss=0.5, final=final)


@contextlib.contextmanager
def new_store() -> Iterator[int]:
    """The descriptor of an empty store."""
    descriptor = memory.create()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(descriptor: int, spec: WeightSpec) -> Iterator[StoreWriter]:
    """A writer over a store."""
    writer = StoreWriter(descriptor, spec)
    try:
        yield writer
    finally:
        writer.close()


def open_stores() -> set[tuple[int, int]]:
    """Descriptors of this process that hold a store in memory, each with the memory's inode."""
    found = set()
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):
            if "p2pdl-weights" in os.readlink(f"/proc/self/fd/{name}"):
                found.add((int(name), os.stat(int(name)).st_ino))
    return found
