"""Weights that are served as a node serves them: out of a store, by p2pdl's own server process."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from experiments.ports import free_ports
from p2pdl.node.children import Lifeline, start_server
from p2pdl.protocol.serving import ServingLimits
from p2pdl.spec import WeightSpec
from p2pdl.store import memory
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector

CLUSTER = "bench"


class Served:
    """A store and the server over it, ended with the context.

    Args:
        node: The node's name.
        spec: The layout of the weights.
        uploads: Pulls at one time.
        keys: The folder of the keys, if the server encrypts.

    Attributes:
        address: Where it is served.
        writer: Publishes.
        process: The server's id.
    """

    def __init__(self, node: str, spec: WeightSpec, uploads: int = 1, keys: Path | None = None) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._step = 0
        with ExitStack() as stack:
            store = memory.create()
            stack.callback(os.close, store)
            self._store = store
            self.writer = StoreWriter(store, spec)
            stack.callback(self.writer.close)
            lifeline = Lifeline()
            stack.callback(lifeline.close)
            limits = ServingLimits(uploads=uploads)
            server = start_server(CLUSTER, node, self.address, store, lifeline, None, limits, keys=keys).ready()
            stack.callback(server.wait)
            stack.callback(server.terminate)
            self.process = server.pid
            self._stack = stack.pop_all()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def store_nbytes(self) -> int:
        """Memory that the kernel has given to the store, touched or not."""
        return 512 * os.fstat(self._store).st_blocks

    def publish(self, vector: Float32Vector) -> None:
        """Publish a copy of the vector, as one more step."""
        self._step += 1
        self.writer.publish(lambda target: np.copyto(target, vector), step=self._step, samples=self._step, loss=1.0)
