"""Nodes that only pretend to train: their servers and their part in the membership are real, their weights made up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from unittest import mock

import numpy as np

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerError
from p2pdl.node.children import Lifeline, start_server
from p2pdl.protocol.messages import SnapshotReply, SpecRequest, StatusReply, StatusRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.server.start import MembershipStart
from p2pdl.server.view import status_block
from p2pdl.spec import WeightSpec
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS
from p2pdl.store.writer import StoreWriter
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import Float32Vector, NodeId

ASK_SECONDS, PULL_SECONDS = 2.0, 10.0

TRAINED = ("training", "finished", "merged")
"""States of a node that serves weights."""

Change = Callable[[Float32Vector, Float32Vector], Float32Vector]
"""From the first and the newest weights of an honest node to those that are served."""


class Pretender:
    """A node without a trainer, which copies an honest one and serves what it makes of it.

    Its steps, samples and states are those of the node that it copies: nothing but its weights, its loss and the way to
    it gives it away. Used by one thread, as a context manager.

    Args:
        name: Its name.
        bind: `host:port` where its server listens.
        address: `host:port` at which the others reach it.
        contacts: Address by name of the other nodes.
        cluster: The cluster's name.
        change: Makes up weights.
        loss: The loss that it states; that of the honest node where None.
        log: The file that its server writes to.

    Attributes:
        step: The step that it claims to be at.
    """

    def __init__(
        self,
        name: NodeId,
        bind: str,
        address: str,
        contacts: Mapping[NodeId, str],
        cluster: str,
        change: Change,
        loss: float | None,
        log: Path,
    ) -> None:
        self._change, self._loss = change, loss
        self.step = 0
        self._state = "ready"
        self._spec: WeightSpec | None = None
        self._inbox: Inbox | None = None
        self._writer: StoreWriter | None = None
        self._first: Float32Vector | None = None
        self._copied: SnapshotReply | None = None
        clock = MonotonicClock()
        with contextlib.ExitStack() as stack:
            self._store = memory.create()
            stack.callback(os.close, self._store)
            self._status = Block(self._store, STATUS)
            stack.callback(self._status.close)
            self._status.write(status_block(now=clock.now(), state=self._state))
            lifeline = Lifeline()
            stack.callback(lifeline.close)
            start = MembershipStart(address, int.from_bytes(os.urandom(8), "big"), "local", dict(contacts))
            server = start_server(cluster, name, bind, self._store, lifeline, log, members=start).ready()
            stack.callback(_end, server)
            self._server = server.pid
            self._requester = Requester(ZmqClient(), cluster, name, clock)
            stack.callback(self._requester.close)
            self._clock = clock
            self._stack = stack.pop_all()

    def __enter__(self) -> Pretender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._stack.close()

    def stop(self) -> None:
        """Let its server neither answer nor end, as SIGSTOP does."""
        os.kill(self._server, signal.SIGSTOP)

    def follow(self, address: str) -> None:
        """Be where an honest node is, and serve what is made of its newest weights; to be called again and again.

        Args:
            address: `host:port` of that node.
        """
        try:
            status, _ = self._requester.ask(address, StatusRequest(), ASK_SECONDS)
        except PeerError:
            return
        if not isinstance(status, StatusReply) or status.state not in TRAINED:
            return
        self.step = status.step
        was, self._state = self._state, status.state
        if was in ("ready", "training"):
            # After that the final weights are there, and stay.
            with contextlib.suppress(PeerError):
                self._copy(address)
            if self._copied is not None:
                self._publish(self._copied, final=self._state != "training")
        self._status.write(
            status_block(
                now=self._clock.now(),
                state=self._state,
                step=status.step,
                steps=status.steps,
                samples=status.samples,
                loss=status.loss if self._loss is None else self._loss,
            )
        )

    def _copy(self, address: str) -> None:
        """Take over what a node serves now.

        Raises:
            PeerError: It could not be had.
        """
        if self._spec is None:
            _, frames = self._requester.ask(address, SpecRequest(), ASK_SECONDS)
            self._spec = WeightSpec.parse(b"".join(frames).decode())
            self._inbox, self._writer = Inbox(self._spec), StoreWriter(self._store, self._spec, self._clock)
        assert self._inbox is not None
        self._inbox.expect(None)
        settings = PullSettings(PULL_SECONDS, ASK_SECONDS)
        outcome = self._requester.pull("copied", address, self._spec, settings, self._inbox.accept)
        if outcome.error is not None:
            raise outcome.error
        self._copied = outcome.snapshot
        if self._first is None:
            self._first = self._inbox.vector.copy()

    def _publish(self, copied: SnapshotReply, final: bool) -> None:
        assert self._inbox is not None and self._writer is not None and self._first is not None
        made_up = self._change(self._first, self._inbox.vector)
        loss = self._loss if self._loss is not None else copied.loss
        # A node of ours publishes nothing that is not finite.
        with mock.patch("p2pdl.store.writer.is_finite", return_value=True):
            self._writer.publish(
                lambda vector: np.copyto(vector, made_up),
                step=copied.step,
                samples=copied.samples,
                loss=float("nan") if loss is None else loss,
                final=final,
            )


def _end(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()
