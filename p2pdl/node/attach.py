"""`p2pdl.Gossip`: a node whose training is a `model.fit` of the user's own."""

from __future__ import annotations

import atexit
import logging
import os
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from p2pdl.clock import MonotonicClock
from p2pdl.config import Configuration, load
from p2pdl.errors import NameTaken
from p2pdl.node.children import Lifeline
from p2pdl.node.choice import claim_node
from p2pdl.node.environment import note_gpus, write_environment
from p2pdl.node.participation import Participation, profile_of
from p2pdl.node.results import save_summary
from p2pdl.node.run_folder import prepare_node_folder
from p2pdl.node.server_keeper import ServerKeeper
from p2pdl.server.view import status_block
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS, VIEW
from p2pdl.store.view import MemberView
from p2pdl.training.callback import GossipCallback
from p2pdl.training.devices import gpu_names
from p2pdl.training.recorder import finite
from p2pdl.types import JsonObject

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0


def Gossip(config: str | Path, name: str | None = None, *overrides: str) -> GossipCallback:  # noqa: N802
    """A Keras callback that lets a model train with the other nodes of a cluster.

    It starts this node's server process when `fit` begins, exchanges weights after every batch, and when `fit` ends
    waits for the other nodes and leaves the model with the average of all. Of the file it uses the sections
    `cluster`, `nodes`, `gossip`, `membership`, `security`, `compress.codec` and its settings, `server`, and of `train`
    the seed and `profile`; model, data and training are the script's own.

    Args:
        config: Path of the cluster's file.
        name: This node's name; None to find the first entry of this machine that does not run yet.
        *overrides: Settings as `section.key=value`.

    Raises:
        ConfigurationError: The file or an override is wrong.
        StartupError: Keras does not run on TensorFlow.
    """
    configuration = load(Path(config), overrides)
    return GossipCallback(lambda model: AttachedNode(configuration, name, model))


class AttachedNode:
    """One node, its server a child of the user's process.

    Args:
        configuration: The cluster.
        name: The node's name, or None.
        model: The built model that the user trains.

    Raises:
        StartupError: The node cannot start on this machine.
    """

    def __init__(self, configuration: Configuration, name: str | None, model: Any) -> None:
        self._configuration = configuration
        self._clock = MonotonicClock()
        self._state = "starting"
        self._step = self._samples = 0
        self._status_due = 0.0
        self._began = 0.0
        self._compute_seconds = 0.0
        self._closed = False
        self._participation: Participation | None = None
        # What is open is closed in the opposite order, also where the rest cannot be opened.
        self._open = ExitStack()
        atexit.register(self.close)
        try:
            claim = claim_node(configuration, name)
            self._open.callback(claim.release)
            self._node = claim.node
            self._folder = prepare_node_folder(configuration, self._node)
            write_environment(self._folder)
            note_gpus(self._folder, gpu_names())
            self._store = memory.create()
            self._open.callback(os.close, self._store)
            lifeline = self._open.enter_context(closing(Lifeline()))
            self._members = self._open.enter_context(closing(MemberView(Block(self._store, VIEW))))
            self._status = self._open.enter_context(closing(Block(self._store, STATUS)))
            self._server = ServerKeeper(configuration, self._node, self._store, lifeline, self._folder)
            self._open.callback(self._server.end)
            self._timeline = profile_of(configuration, self._node, self._folder)
            if self._timeline is not None:
                self._open.callback(self._timeline.close)
            self._server.start()
            self._participation = Participation(
                configuration, self._node, self._store, model, self._clock, self._timeline
            )
            self._participation.warm_up()
            self._enter("ready")
            self._participation.start_together(self._pause)
            self._enter("training")
        except BaseException:
            self.close()
            raise

    def before_step(self) -> None:
        """See `Session.before_step`."""
        self._began = self._clock.now()

    def after_step(self, step: int, samples: int, loss: float) -> JsonObject:
        """See `Session.after_step`."""
        assert self._participation is not None
        self._step, self._samples = step, samples
        self._compute_seconds += self._record_since_it_began("compute", step=step)
        exchange = self._participation.exchange
        exchange.after_step(step, samples, loss)
        if self._clock.now() >= self._status_due:
            self._write_status()
            self._server.keep()
            self._check_name()
            if self._timeline is not None:
                self._timeline.flush()
        return {"merges": exchange.counters.merges, "merges_skipped": exchange.counters.merges_skipped}

    def before_evaluation(self) -> None:
        """See `Session.before_evaluation`."""
        self._began = self._clock.now()

    def after_evaluation(self) -> None:
        """See `Session.after_evaluation`."""
        assert self._participation is not None
        self._participation.exchange.after_evaluation(self._record_since_it_began("evaluate"))

    def finish(self) -> None:
        """See `Session.finish`."""
        assert self._participation is not None
        self._participation.exchange.finish()
        self._enter("finished")
        merged = None
        if self._configuration.gossip.final_merge:
            merged = self._participation.merge_finally(self._samples, self._pause)
            log.info("final merge of %s", ", ".join(merged.nodes))
        self._enter("merged")
        self._participation.wait_until_served(merged, self._pause)
        summary = {
            "node": self._node,
            "strategy": self._configuration.strategy,
            "state": "done",
            "steps": self._step,
            "samples": self._samples,
            "smoothed_loss": self._participation.exchange.smoothed_loss,
            "compute_seconds": self._compute_seconds,
            "final_merge": merged.figures() if merged else None,
            **self._participation.summary(),
        }
        save_summary(self._folder, finite(summary))

    def close(self) -> None:
        """See `Session.close`."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with self._open:
            if self._participation is not None:
                self._participation.close()

    def _record_since_it_began(self, name: str, **details: object) -> float:
        now = self._clock.now()
        if self._timeline is not None:
            self._timeline.record("trainer", name, self._began, now, **details)
        return now - self._began

    def _check_name(self) -> None:
        other = self._members.superseded
        if other is not None:
            address = str(self._configuration.node(self._node).address)
            raise NameTaken(self._node, address, other)

    def _pause(self, seconds: float) -> bool:
        self._write_status()
        self._server.keep()
        time.sleep(seconds)
        return False

    def _figures(self) -> JsonObject:
        if self._participation is None:
            return {}
        return {"compute_seconds": self._compute_seconds, **self._participation.figures()}

    def _enter(self, state: str) -> None:
        self._state = state
        self._write_status()

    def _write_status(self) -> None:
        self._status_due = self._clock.now() + STATUS_SECONDS
        participation = self._participation
        self._status.write(
            status_block(
                now=self._clock.now(),
                state=self._state,
                step=self._step,
                samples=self._samples,
                loss=participation.exchange.smoothed_loss if participation else None,
                figures=finite(self._figures()),  # type: ignore[arg-type]
                peers=participation.peer_rows() if participation else [],
            )
        )
