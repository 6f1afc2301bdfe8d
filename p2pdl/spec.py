"""The layout of a model as one flat float32 vector, and the digests that identify it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import xxhash

from p2pdl.types import Float32Vector

ALIGNMENT = 16
"""Elements (64 bytes): where a variable may start, so that frameworks can map it without a copy."""

SHARD_ELEMENTS = 1 << 18
"""Elements of a shard (1 MiB): the unit of digests, frames and range offsets."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the model and its place in the flat vector.

    Attributes:
        name: The variable's path in the model, unique.
        shape: Its shape.
        dtype: Its dtype in the model, such as `float32`; in the vector it is always float32.
        offset: First element in the vector, a multiple of `ALIGNMENT`.
        trainable: False for statistics such as BatchNorm's moving mean and variance.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    trainable: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def span(self) -> slice:
        """The variable's elements in the flat vector."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class WeightSpec:
    """Names, shapes, dtypes and offsets of the exchanged variables, in model order.

    Two nodes exchange weights only if the digests of their specs are equal.
    """

    variables: tuple[Variable, ...]

    @classmethod
    def layout(cls, variables: Iterable[tuple[str, tuple[int, ...], str, bool]]) -> WeightSpec:
        """Place variables one after another, each at the next multiple of 64 bytes.

        Args:
            variables: (name, shape, dtype, trainable) of each, in model order.
        """
        placed: list[Variable] = []
        offset = 0
        for name, shape, dtype, trainable in variables:
            variable = Variable(name, tuple(shape), dtype, offset, trainable)
            placed.append(variable)
            offset += -(-variable.size // ALIGNMENT) * ALIGNMENT
        return cls(tuple(placed))

    @classmethod
    def parse(cls, text: str) -> WeightSpec:
        """The inverse of `rows`, joined by line feeds.

        Raises:
            ValueError: The text is no such rows.
        """
        variables = []
        for row in text.split("\n"):
            name, shape, dtype, offset, kind = row.split("\t")
            sizes = () if shape == "scalar" else tuple(map(int, shape.split("x")))
            variables.append(Variable(name, sizes, dtype, int(offset), kind == "trainable"))
        return cls(tuple(variables))

    @cached_property
    def size(self) -> int:
        """Elements of the flat vector, padding included."""
        if not self.variables:
            return 0
        last = self.variables[-1]
        return last.offset + -(-last.size // ALIGNMENT) * ALIGNMENT

    @property
    def nbytes(self) -> int:
        """Bytes of the flat vector."""
        return 4 * self.size

    @cached_property
    def parameters(self) -> int:
        """Number of values in the model, padding not counted."""
        return sum(variable.size for variable in self.variables)

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits over every name, shape, dtype, offset and trainable flag."""
        return xxhash.xxh3_128_hexdigest("\n".join(self.rows()).encode())

    @cached_property
    def state_spans(self) -> tuple[slice, ...]:
        """Where the vector holds what is not trained: statistics, which are averaged, never extrapolated."""
        return tuple(variable.span for variable in self.variables if not variable.trainable)

    def rows(self) -> Iterator[str]:
        """One line of text for each variable, which the digest is taken over."""
        for v in self.variables:
            shape = "x".join(map(str, v.shape)) or "scalar"
            kind = "trainable" if v.trainable else "state"
            yield f"{v.name}\t{shape}\t{v.dtype}\t{v.offset}\t{kind}"

    def first_difference(self, other_rows: Iterable[str]) -> str:
        """Say where another model's rows first differ from this model's; empty if they do not.

        Args:
            other_rows: `rows()` of the other model's spec.
        """
        mine, theirs = list(self.rows()), list(other_rows)
        for number, (own, other) in enumerate(zip(mine, theirs, strict=False)):
            if own != other:
                return f"variable {number} is {_readable(own)} here and {_readable(other)} there"
        if len(mine) > len(theirs):
            return f"variable {len(theirs)}, {_readable(mine[len(theirs)])}, exists only here"
        if len(theirs) > len(mine):
            return f"variable {len(mine)}, {_readable(theirs[len(mine)])}, exists only there"
        return ""


def _readable(row: str) -> str:
    fields = row.split("\t")
    return f"{fields[0]} {fields[2]}[{fields[1]}]" if len(fields) == 5 else repr(row[:80])


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What describes one published version of a node's weights.

    Attributes:
        version: Counter of publications, from 1; it goes on where an earlier trainer over the same store stopped.
        step: Optimizer steps behind these weights.
        samples: Training samples behind these weights.
        loss: Smoothed training loss at that moment; NaN before the first step.
        final: True if the node has done all its steps and these are its last weights.
        digest: `vector_digest` of the vector.
        published: Seconds of the machine's monotonic clock.
    """

    version: int
    step: int
    samples: int
    loss: float
    final: bool
    digest: int
    published: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a node's weights: the flat vector and what describes it."""

    info: SnapshotInfo
    vector: Float32Vector
    shard_digests: tuple[int, ...]


def shards_in(length: int) -> int:
    """Shards that so many elements make up, the last one perhaps shorter."""
    return -(-length // SHARD_ELEMENTS)


def shard_of(vector: Float32Vector, number: int) -> Float32Vector:
    """One shard of a vector."""
    return vector[number * SHARD_ELEMENTS : (number + 1) * SHARD_ELEMENTS]


def shard_digest(shard: Float32Vector) -> int:
    """64-bit xxh3 of the shard's little-endian bytes."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(shard).data)


def shard_digests(vector: Float32Vector) -> tuple[int, ...]:
    """Digest of each shard of 1 MiB, the last one shorter."""
    return tuple(shard_digest(shard_of(vector, number)) for number in range(shards_in(vector.size)))


def combine_digests(digests: Iterable[int]) -> int:
    """The digest of a whole vector from its shards': xxh3 over them as little-endian 64-bit words."""
    return xxhash.xxh3_64_intdigest(np.fromiter(digests, dtype="<u8").tobytes())


def vector_digest(vector: Float32Vector) -> int:
    """The digest that identifies a vector; checked shard by shard while it arrives."""
    return combine_digests(shard_digests(vector))
