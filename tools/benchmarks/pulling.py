"""The role of a peer that pulls a vector when it is told to, or receives the same bytes from a bare TCP socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from experiments.pulled_vector import layout, receive
from p2pdl.clock import MonotonicClock
from p2pdl.errors import RejectedWeights
from p2pdl.lifeline import yield_to_training
from p2pdl.node.security import connecting
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.puller.source import Source
from p2pdl.spec import shards_in
from tools.benchmarks.role import answer, orders
from tools.benchmarks.served import CLUSTER


def pull_on_request(
    elements: int, address: str, codec: str, name: str, port: int = 0, checked: bool = True, keys: str = ""
) -> None:
    """Role: `pull` and `tcp` answer with the seconds; `compare` makes sure that both have brought the same.

    Args:
        elements: Size of the vector.
        address: `host:port` of the server.
        codec: How the pull encodes.
        name: This node's name.
        port: Of the bare TCP server on this machine; 0 if there is none.
        checked: False to leave the checks out of the pull.
        keys: The folder of the keys, if the server encrypts; its name there is `server`.
    """
    # As the puller's thread of a node, so that it and the server have the same claim to the cores.
    yield_to_training()
    spec = layout(elements)
    source = Source(spec, Link(LinkSettings(codec), shards_in(spec.size)), parts=1)
    inbox = Inbox(spec)
    inbox.expect(None)
    received = np.ones(elements if port else 0, np.float32)
    with contextlib.ExitStack() as stack:
        make_client = connecting(Path(keys) if keys else None, name, lambda: {"server": address})
        requester = Requester(make_client(), CLUSTER, name, MonotonicClock())
        stack.callback(requester.close)
        if port:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        if not checked:
            stack.enter_context(without_checks())
        for order in orders():
            match order:
                case "tcp":
                    answer(seconds=receive(connection, received))
                case "pull":
                    pull = source.order("server", address, inbox.accept, None, whole=False)
                    outcome = requester.pull(
                        pull.peer, pull.address, spec, pull.settings, pull.sink, decoder=pull.decoder
                    )
                    if outcome.error is not None:
                        raise outcome.error
                    answer(seconds=outcome.seconds, nbytes=outcome.nbytes)
                case "compare":
                    if not np.array_equal(inbox.vector[:elements], received):
                        raise RejectedWeights("the pull and the bare TCP socket have brought different bytes")
                    answer()


@contextlib.contextmanager
def without_checks() -> Iterator[None]:
    """Take every digest for right and every value for finite, in this process.

    The pull goes its usual way but for these two calls for each shard, so what is left is the transfer alone.
    """
    with (
        mock.patch("xxhash.xxh3_64_intdigest", lambda data: mock.ANY),
        mock.patch("p2pdl.codec.float32.refuse_not_finite", lambda values: None),
    ):
        yield
