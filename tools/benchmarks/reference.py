"""The references: a copy within the memory, and bytes over a bare TCP socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import numpy as np

from experiments.pulled_vector import WEIGHT_SIGMA, send_on_request
from p2pdl.types import Float32Vector
from tools.benchmarks.measurement import seconds_of
from tools.benchmarks.role import answer, orders

MEMCPY = "memcpy of the same float32 bytes"
BARE_TCP = "bare TCP: sendall, and recv_into one buffer, of the same float32 bytes"


def weights(elements: int) -> Float32Vector:
    """A vector like a model's weights, the same in every process."""
    vector: Float32Vector = np.random.default_rng(0).standard_normal(elements, np.float32)
    vector *= np.float32(WEIGHT_SIGMA)
    return vector


def memcpy(elements: int) -> Callable[[], float]:
    """A function that copies so many float32 values into memory that is there already, and returns the seconds."""
    source = weights(elements)
    target = np.ones_like(source)
    return lambda: seconds_of(lambda: np.copyto(target, source))


def send_by_tcp(elements: int) -> None:
    """Role of the bare TCP server; it answers the order `port`."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=send_on_request, args=(listener, weights(elements)), daemon=True).start()
    for _ in orders():
        answer(port=listener.getsockname()[1])
